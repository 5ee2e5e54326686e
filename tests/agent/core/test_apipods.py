"""What is told of pods and nodes, and when a list is believed."""

from __future__ import annotations

from protokube.agent.core.apipods import api_pod, mirror_changes, status_patch
from protokube.agent.core.equal import Difference, difference
from protokube.agent.core.node import micro_time, taint_of, transitions
from protokube.agent.core.pods import uid_of
from protokube.agent.core.trust import distrust
from tests.agent.pods import UIDS, wanted


def test_a_list_is_believed_unless_it_would_end_pods_of_another_cluster() -> None:
    assert distrust(None, None, ["a"], []) is None, "the first contact"
    assert distrust("n", "n", ["a"], []) is None, "the same node: what isn't listed has ended"
    assert distrust("n", "m", ["a"], ["a", "b"]) is None, "restored: nothing is lost"
    assert distrust("n", None, [], []) is None, "nothing runs"
    assert "knows no such node" in (distrust("n", None, ["a"], []) or "")
    assert "lists 1 of the 2" in (distrust("n", "m", ["a", "b"], ["a"]) or "")


def test_only_what_may_change_makes_an_api_pod_another_one() -> None:
    pod = wanted(uid=UIDS[1])
    one = api_pod(pod)
    filled = {**one, "spec": {**one["spec"], "containers": [{"name": "c", "image": "x", "env": ["secret"]}]}}
    assert difference(one, filled) is Difference.NONE, "values that were filled in for the provider"
    patched = {**pod, "status": {"phase": "Running"}, "metadata": {**pod["metadata"], "resourceVersion": "9"}}
    assert difference(api_pod(patched), one) is Difference.NONE
    labelled = {**pod, "metadata": {**pod["metadata"], "labels": {"a": "b"}}}
    assert difference(api_pod(labelled), one) is Difference.UPDATE


def test_a_status_says_what_is_no_more() -> None:
    status = {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "nominatedNodeName": "x", "hostIP": None}
    assert status_patch("u", status) == {
        "metadata": {"uid": "u"},
        "status": {
            "phase": "Running",
            "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.1"}],
            "reason": None,
            "message": None,
        },
    }


def test_mirrors_go_only_when_it_is_known_what_is_static() -> None:
    pod = wanted(uid=UIDS[1])
    other = {"uid": UIDS[2], "annotations": {"kubernetes.io/config.mirror": "x"}}
    mirror = {**pod, "metadata": {**pod["metadata"], **other}}
    orphan = {**mirror, "metadata": {**mirror["metadata"], "name": "orphan"}}
    assert mirror_changes([pod], [], settled=False) == ([pod], [], [])
    assert mirror_changes([pod], [mirror], settled=False) == ([], [], [mirror]), "another content"
    right = {**mirror["metadata"], "annotations": {"kubernetes.io/config.mirror": uid_of(pod)}}
    assert mirror_changes([pod], [{**mirror, "metadata": right}], settled=True)[1]
    assert mirror_changes([], [orphan], settled=False)[2] == []
    assert mirror_changes([], [orphan], settled=True)[2] == [orphan]


def test_the_time_of_a_condition_is_that_of_its_change() -> None:
    before = [{"type": "Ready", "status": "True"}]
    assert transitions(before, before, {"Ready": "1"}, "2") == {"Ready": "1"}
    assert transitions(before, [{"type": "Ready", "status": "False"}], {"Ready": "1"}, "2") == {"Ready": "2"}


def test_a_lease_has_six_digits_of_a_second_and_a_taint_its_parts() -> None:
    assert micro_time(0.25) == "1970-01-01T00:00:00.250000Z"
    assert taint_of("a/b=c:NoExecute") == {"key": "a/b", "value": "c", "effect": "NoExecute"}
    assert taint_of("a") == {"key": "a", "effect": "NoSchedule"}
