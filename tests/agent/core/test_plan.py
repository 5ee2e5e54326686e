"""The plan, rule by rule."""

from __future__ import annotations

from typing import Any

import pytest

from protokube.agent.core.backoff import Pause, after_end, after_exit, after_failure
from protokube.agent.core.equal import Difference, difference
from protokube.agent.core.model import Pod
from protokube.agent.core.plan import Create, Delete, Finish, Memory, Nothing, Update, View, Wait, plan, rivals_of
from tests.agent.pods import UIDS, wanted

POD = wanted(uid=UIDS[1])
CHANGED = wanted(uid=UIDS[1], containers=[{"name": "c", "image": "other"}])
ANOTHER = wanted(uid=UIDS[1], volumes=[{"name": "v", "emptyDir": {}}])


def ran(pod: Pod = POD, phase: str = "Running", **metadata: Any) -> Pod:
    return {**pod, "metadata": {**pod["metadata"], **metadata}, "status": {"phase": phase}}


def api(**metadata: Any) -> Pod:
    pod = wanted(uid=UIDS[1], owner="api")
    del pod["metadata"]["annotations"]["protokube.io/content"]
    return {**pod, "metadata": {**pod["metadata"], **metadata}}


STRANGER = {"metadata": {"name": "x", "uid": UIDS[2]}, "status": {"phase": "Running"}}
ENDING: dict[str, Any] = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}


@pytest.mark.parametrize(
    ("view", "memory", "expected"),
    [
        pytest.param(View(POD, None, heard=False), Memory(), Nothing, id="1 unheard: not created"),
        pytest.param(View(None, ran(), heard=False), Memory(), Nothing, id="1 unheard: not removed"),
        pytest.param(View(CHANGED, ran(), heard=False), Memory(), Nothing, id="1 unheard: not changed"),
        pytest.param(View(POD, None), Memory(), Create, id="2 absent: created"),
        pytest.param(View(POD, None, rivals=("x runs",)), Memory(), Wait, id="2 a namesake runs"),
        pytest.param(View(POD, ran(**ENDING)), Memory(), Wait, id="2 the same one is ending"),
        pytest.param(View(POD, ran()), Memory(removal=30), Wait, id="2 it was asked to end"),
        pytest.param(View(POD, ran()), Memory(), Nothing, id="3 as wanted"),
        pytest.param(View(CHANGED, ran()), Memory(), Update, id="3 changed in place"),
        pytest.param(View(ANOTHER, ran()), Memory(), Delete, id="3 changed beyond that"),
        pytest.param(
            View(CHANGED, ran()),
            Memory(replacing=True, content=CHANGED["metadata"]["annotations"]["protokube.io/content"]),
            Delete,
            id="3 the provider can't change it",
        ),
        pytest.param(View(None, ran()), Memory(), Delete, id="4 unwanted"),
        pytest.param(View(None, ran(**ENDING)), Memory(), Wait, id="4 unwanted and ending"),
        pytest.param(View(api(**ENDING), ran(api())), Memory(), Delete, id="5 deleted at the API server"),
        pytest.param(View(api(**ENDING), None), Memory(), Finish, id="5 deleted and absent"),
        pytest.param(View(api(**ENDING), None), Memory(finished=True, deleted=True), Nothing, id="5 and finished"),
        pytest.param(
            View(POD, None),
            Memory(refused=("no",), content=POD["metadata"]["annotations"]["protokube.io/content"]),
            Nothing,
            id="6 refused",
        ),
        pytest.param(View(CHANGED, None), Memory(refused=("no",), content="before"), Create, id="6 changed since"),
        pytest.param(View(POD, None), Memory(pause=Pause(1, 101), error="no"), Wait, id="7 too early"),
        pytest.param(View(POD, None), Memory(pause=Pause(9, 100), error="no"), Create, id="7 tried again"),
        pytest.param(View(CHANGED, ran()), Memory(pause=Pause(1, 101), error="no"), Wait, id="7 too early to update"),
        pytest.param(View(None, ran()), Memory(pause=Pause(1, 101), error="no"), Wait, id="7 too early to delete"),
        pytest.param(View(POD, ran(phase="Failed")), Memory(), Nothing, id="8 final"),
        pytest.param(View(CHANGED, ran(phase="Failed")), Memory(), Delete, id="8 another content is another pod"),
        pytest.param(View({**api(), "status": {"phase": "Failed"}}, None), Memory(), Nothing, id="8 API"),
        pytest.param(View(POD, None), Memory(seen=True), Create, id="9 lost: created again"),
        pytest.param(View(api(), None), Memory(seen=True), Finish, id="9 lost: failed"),
        pytest.param(View(ran(api()), None), Memory(), Finish, id="9 lost before this agent: failed"),
        pytest.param(View(ran(api()), None), Memory(again=True), Create, id="9 not lost: ended by us"),
        pytest.param(View(api(**ENDING), None), Memory(finished=True), Finish, id="5 lost first, then deleted"),
        pytest.param(View(api(**ENDING), None), Memory(pause=Pause(1, 101)), Wait, id="5 its report failed"),
        pytest.param(View(None, STRANGER), Memory(), Nothing, id="11 nobody's"),
        pytest.param(View(None, ran(), configured=False), Memory(), Nothing, id="11 of no configured source"),
    ],
)
def test_rule(view: View, memory: Memory, expected: type) -> None:
    assert type(plan(view, memory, 100.0)) is expected


@pytest.mark.parametrize(("asked", "grace", "expected"), [(30, 5, 5), (5, 30, None), (5, 5, None), (None, 7, 7)])
def test_a_later_grace_shortens_and_never_lengthens(asked: int | None, grace: int, expected: int | None) -> None:
    pod = ran(api(deletionGracePeriodSeconds=grace, deletionTimestamp="2026-01-01T00:00:00Z"))
    step = plan(View(pod, ran(api())), Memory(removal=asked), 0.0)
    assert (step.grace if isinstance(step, Delete) else None) == expected


def test_of_two_wanted_pods_with_one_name_the_first_source_s_runs() -> None:
    both = {"a": (False, True), "b": (False, True)}
    assert rivals_of("b", both, {"a": 1, "b": 0}) == ()
    assert rivals_of("a", both, {"a": 1, "b": 0}) == ("pod b has the same name and comes first",)
    assert rivals_of("b", {"a": (True, False), "b": (False, True)}, {"b": 0}) == (
        "pod a of the same name still runs",
    )


def test_the_order_of_variables_is_no_difference() -> None:
    def with_env(*names: str) -> Pod:
        env = [{"name": name, "value": "1"} for name in names]
        return {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "env": env}]}}

    assert difference(with_env("A", "B"), with_env("B", "A")) is Difference.NONE
    assert difference(with_env("A", "B"), with_env("B", "C")) is Difference.UPDATE


def test_pauses_double_up_to_five_minutes_and_are_forgotten_after_ten() -> None:
    pause, lengths = Pause(), []
    for _ in range(8):
        pause = after_exit(pause, 0.0, ran=1.0)
        lengths.append(pause.until)
    assert lengths == [0, 10, 20, 40, 80, 160, 300, 300]
    assert after_exit(pause, 0.0, ran=600.0).until == 0.0
    pause, lengths = Pause(), []
    for _ in range(7):
        pause = after_failure(pause, 0.0, first=10.0, longest=300.0)
        lengths.append(pause.until)
    assert lengths == [10, 20, 40, 80, 160, 300, 300]


def test_the_pause_grows_until_something_lasted() -> None:
    pause = after_end(Pause(), 0.0, 1.0, first=1.0, longest=60.0)
    assert pause == Pause(1, 2.0)
    pause = after_end(pause, 2.0, 61.0, first=1.0, longest=60.0)
    assert pause == Pause(2, 63.0)
    assert after_end(pause, 63.0, 123.0, first=1.0, longest=60.0) == Pause(1, 124.0)
