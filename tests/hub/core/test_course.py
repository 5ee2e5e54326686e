"""A command's course: once, or unknown; after restarts; to whom it goes next; and what undoes itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protokube.core.model import Fault
from protokube.hub.core.course import (
    Course,
    Ends,
    Outcome,
    RunAgain,
    Stage,
    after_restart,
    heard,
    lapsed,
)
from protokube.hub.core.rounds import Candidate, Next, Over, Strategy, next_round, read_strategy, rounds
from protokube.hub.core.trial import Held, Judged, Trial, Verdict, hold_ended, judge_trial
from tests.hub.core.commands import event

WHOLE = [
    event(1, "accepted"),
    event(2, "started"),
    event(3, "log", text="a"),
    event(4, "progress", text="b"),
    event(5, "done", outcome="ok", why="fine"),
]


def course_of(events: list[Any], course: Course = Course(Stage.SENT)) -> Course:  # noqa: B008 - frozen
    for one in events:
        course = heard(course, one) or course
    return course


@given(st.lists(st.integers(0, 4), max_size=20))
def test_events_twice_and_late_change_nothing(extra: list[int]) -> None:
    """Frames come at least once, in order; after a reconnect some come again."""
    events = []
    for n, one in enumerate(WHOLE):
        events += [one, *(WHOLE[k] for k in extra if k <= n)]
    assert course_of(events) == Course(Stage.DONE, 5, Outcome.OK, "fine")


def test_a_command_ends_once() -> None:
    done = course_of(WHOLE)
    assert heard(done, event(6, "done", outcome="failed")) is None
    refused = course_of([event(1, "refused", check="lock", faults=["busy"])])
    assert refused == Course(Stage.REFUSED, 1, Outcome.FAILED, "lock: busy")
    assert heard(refused, event(2, "started")) is None


@pytest.mark.parametrize("word", [None, "splendid", 7, ["ok"], {}])
def test_a_word_that_isn_t_known_is_not_fine(word: object) -> None:
    assert course_of([event(1, "done", outcome=word)]).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("data", [{"check": 5, "faults": 7}, {}, {"faults": [1, None]}])
def test_a_node_s_odd_refusal_is_still_one(data: dict[str, Any]) -> None:
    assert course_of([event(1, "refused", **data)]).stage is Stage.REFUSED


def test_what_was_never_sent_is_skipped_and_what_was_sent_is_unknown_until_its_node_tells() -> None:
    assert lapsed(Course(), 999.0, 1000.0) is None
    skipped = lapsed(Course(), 1000.0, 1000.0)
    assert skipped is not None and skipped.stage is Stage.SKIPPED and skipped.outcome is None
    sent = course_of(WHOLE[:2])
    assert lapsed(sent, 1059.0, 1000.0) is None
    unknown = lapsed(sent, 1060.0, 1000.0)
    assert unknown is not None and unknown.outcome is Outcome.UNKNOWN and "started" in unknown.why
    assert lapsed(unknown, 2000.0, 1000.0) is None
    assert course_of(WHOLE, unknown).outcome is Outcome.OK
    assert lapsed(course_of(WHOLE), 9999.0, 1000.0) is None


@pytest.mark.parametrize(
    ("events", "changes", "now", "expected"),
    [
        ([], True, 0.0, Ends),
        ([], False, 0.0, Ends),
        (["accepted"], True, 0.0, RunAgain),
        (["accepted"], False, 0.0, RunAgain),
        (["accepted"], True, 1000.0, Ends),
        (["accepted", "started"], True, 0.0, Ends),
        (["accepted", "started", "log"], True, 0.0, Ends),
        (["accepted", "started"], False, 0.0, RunAgain),
        (["accepted", "started"], False, 1000.0, Ends),
        (["accepted", "started", "done"], True, 0.0, type(None)),
        (["refused"], True, 0.0, type(None)),
    ],
)
def test_after_a_restart_a_change_that_began_is_never_run_again(
    events: list[str], changes: bool, now: float, expected: type
) -> None:
    made = after_restart(
        [event(n + 1, kind) for n, kind in enumerate(events)], changes=changes, now=now, deadline=1e3
    )
    assert isinstance(made, expected)
    if isinstance(made, Ends):
        assert made.outcome is (Outcome.UNKNOWN if changes and "started" in events else Outcome.FAILED)


# --- rounds ---

NODES = [f"n{number}" for number in range(6)]
OK, FAILED = Course(Stage.DONE, 3, Outcome.OK), Course(Stage.DONE, 3, Outcome.FAILED)
UNKNOWN = Course(Stage.STARTED, 2, Outcome.UNKNOWN)
SENT, QUEUED = Course(Stage.SENT), Course()


def after(
    strategy: Strategy, *courses: Course, last: str | None = None, apart: Mapping[str, Candidate] = {}
) -> Next | Over:
    names = NODES[: len(courses)]
    candidates = [apart.get(name, Candidate(name, linked=True)) for name in names]
    return next_round(strategy, candidates, dict(zip(names, courses, strict=True)), last)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", Strategy()),
        ("one", Strategy(1)),
        ("rolling=4", Strategy(4)),
        ("round-robin", Strategy(1, single=True)),
        ("rolling=0", None),
        ("rolling", None),
        ("any", None),
        ("rolling=4\n", None),
    ],
)
def test_strategies_are_spelled_in_one_way(text: str, expected: Strategy | None) -> None:
    read = read_strategy(text)
    assert read == expected if expected else isinstance(read, Fault)
    assert isinstance(read_strategy(text, -1), Fault)


def test_all_at_once_and_n_at_a_time() -> None:
    assert after(Strategy(), *[QUEUED] * 4) == Next(("n0", "n1", "n2", "n3"))
    rolling = Strategy(2)
    assert after(rolling, *[QUEUED] * 4) == Next(("n0", "n1"))
    assert after(rolling, SENT, SENT, QUEUED) == Next(())
    assert after(rolling, OK, SENT, QUEUED, QUEUED) == Next(("n2",))
    assert after(rolling, OK, OK, OK) == Over()


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [(Strategy(), 1), (Strategy(1), 10), (Strategy(4), 3), (Strategy(10), 1), (Strategy(1, single=True), 1)],
)
def test_ten_nodes_have_so_many_rounds(strategy: Strategy, expected: int) -> None:
    assert rounds(strategy, 10) == expected


def test_failures_stop_the_rest() -> None:
    over = after(Strategy(1), OK, FAILED, QUEUED, QUEUED)
    assert isinstance(over, Over) and set(over.skipped) == {"n2", "n3"} and "n1" in over.skipped["n2"]
    assert isinstance(after(Strategy(1), Course(Stage.REFUSED, 1, Outcome.FAILED), QUEUED), Over)
    assert isinstance(after(Strategy(1), UNKNOWN, QUEUED), Over)
    assert after(Strategy(1, max_fail=1), FAILED, QUEUED) == Next(("n1",))
    assert isinstance(after(Strategy(1, max_fail=1), FAILED, FAILED, QUEUED), Over)


def test_an_unknown_one_holds_its_place() -> None:
    assert after(Strategy(1, max_fail=3), UNKNOWN, QUEUED) == Next(())


def test_who_is_away_held_or_busy_is_left_for_later() -> None:
    apart = {
        "n0": Candidate("n0", linked=False),
        "n1": Candidate("n1", linked=True, held=True),
        "n2": Candidate("n2", linked=True, busy=True),
    }
    assert after(Strategy(2), *[QUEUED] * 5, apart=apart) == Next(("n3", "n4"))
    assert after(Strategy(1, single=True), *[QUEUED] * 5, last="n0", apart=apart) == Next(("n3",))


def test_the_turn_goes_round() -> None:
    one = Strategy(1, single=True)
    seen, last = [], None
    for _ in range(7):
        made = after(one, *[QUEUED] * 3, last=last)
        assert isinstance(made, Next)
        (last,) = made.nodes
        seen.append(last)
    assert seen == ["n0", "n1", "n2", "n0", "n1", "n2", "n0"]


@pytest.mark.parametrize("course", [SENT, UNKNOWN, OK, FAILED])
def test_what_was_sent_to_one_node_is_never_sent_to_another_instead(course: Course) -> None:
    over = after(Strategy(1, single=True), QUEUED, course, QUEUED, last="n1")
    assert isinstance(over, Over) and set(over.skipped) == {"n0", "n2"}


@given(
    st.integers(0, 4),
    st.integers(0, 3),
    st.lists(st.sampled_from([QUEUED, SENT, OK, FAILED, UNKNOWN]), min_size=1, max_size=6),
)
def test_never_more_under_way_than_the_width_allows(width: int, max_fail: int, courses: list[Course]) -> None:
    made = after(Strategy(width, max_fail=max_fail), *courses)
    if isinstance(made, Next):
        assert all(courses[NODES.index(name)] == QUEUED for name in made.nodes)
        under_way = sum(one in (SENT, UNKNOWN) for one in courses)
        assert width == 0 or not made.nodes or under_way + len(made.nodes) <= width
        assert sum(one in (FAILED, UNKNOWN) for one in courses) <= max_fail
    else:
        assert set(made.skipped) == {name for name, one in zip(NODES, courses, strict=False) if one == QUEUED}


# --- what undoes itself ---

TRIAL = Trial("id", 4, 3, "boot-1", 100.0, 160.0)


@pytest.mark.parametrize(
    ("boot", "now", "facts", "expected"),
    [
        ("boot-1", 159.0, {}, Verdict.WAIT),
        ("boot-1", 160.0, {}, Verdict.ROLL_BACK),
        ("boot-1", 160.0, {"confirmed": True}, Verdict.KEEP),
        ("boot-2", 5.0, {}, Verdict.ROLL_BACK),
        ("boot-1", 101.0, {"resumed": True}, Verdict.ROLL_BACK),
        ("boot-2", 5.0, {"confirmed": True, "resumed": True}, Verdict.KEEP),
        ("boot-1", 109.0, {"active": False}, Verdict.WAIT),
        ("boot-1", 110.0, {"active": False}, Verdict.ROLL_BACK),
        ("boot-1", 150.0, {"active": None}, Verdict.WAIT),
    ],
)
def test_a_configuration_on_trial(boot: str, now: float, facts: dict[str, Any], expected: Verdict) -> None:
    judged = judge_trial(TRIAL, boot, now, **{"active": True, "confirmed": False, **facts})
    assert isinstance(judged, Judged) and judged.verdict is expected and judged.why


def test_a_hold_ends_by_itself() -> None:
    held = Held("id", "disk swap", "boot-1", 500.0)
    assert hold_ended(held, "boot-1", 499.0) is None
    assert hold_ended(held, "boot-1", 500.0) == "its time is over"
    assert hold_ended(held, "boot-2", 5.0) == "the machine was started again"
