"""What a pod's containers need next, and the status that tells of it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from protokube.agent.core.backoff import Pause
from protokube.agent.core.expand import arguments, environment
from protokube.agent.core.lifecycle import (
    EXITED,
    RUNNING,
    ContainerId,
    ContainerState,
    Decision,
    Ending,
    Gone,
    Life,
    Start,
    Stop,
    Verdict,
    decide,
)
from protokube.agent.core.model import Container, Probe, Spec, TcpSocket, spec_of
from protokube.agent.core.probes import Tallies, count, due, verdict
from protokube.agent.core.status import Seen, phase_of, pod_status, qos_class
from tests.agent.pods import manifest


def container(name: str, **more: Any) -> Container:
    return Container(name, "host", **more)


def state(name: str, kind: str = RUNNING, code: int | None = None, attempt: int = 0) -> ContainerState:
    return ContainerState(ContainerId("u", name, attempt), kind, 1000.0, 1001.0 if kind == EXITED else None, code)


def exited(name: str, code: int) -> ContainerState:
    return state(name, EXITED, code)


def life(*states: ContainerState, inits: tuple[Container, ...] = (), policy: str = "Always", **more: Any) -> Life:
    spec = Spec((container("a"), container("b")), inits, restart_policy=policy)
    return Life(spec, {one.id.container: one for one in states}, **more)


INITS = (container("i1"), container("i2"))
SIDECAR = (container("s", restart_policy="Always"), container("i"))


def starts(decision: Decision) -> list[str]:
    return [one.container for one in decision.deeds if isinstance(one, Start)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (life(), ["a", "b"]),
        (life(state("a"), state("b")), []),
        (life(state("a")), ["b"]),
        (life(inits=INITS), ["i1"]),
        (life(state("i1"), inits=INITS), []),
        (life(exited("i1", 0), inits=INITS), ["i2"]),
        (life(exited("i1", 0), state("i2"), inits=INITS), []),
        (life(exited("i1", 0), exited("i2", 0), inits=INITS), ["a", "b"]),
        (life(exited("i1", 1), inits=INITS), ["i1"]),
        (life(exited("i1", 1), inits=INITS, policy="Never"), []),
        (life(exited("a", 0), state("b")), ["a"]),
        (life(exited("a", 0), state("b"), policy="OnFailure"), []),
        (life(exited("a", 3), state("b"), policy="OnFailure"), ["a"]),
        (life(exited("a", 3), state("b"), policy="Never"), []),
        (life(inits=SIDECAR), ["s"]),
        (life(state("s"), inits=SIDECAR), ["i"]),
        (life(state("s"), inits=SIDECAR, verdicts={"s": Verdict(started=False)}), []),
        (life(state("s"), exited("i", 0), inits=SIDECAR), ["a", "b"]),
        (life(exited("s", 0), exited("i", 0), state("a"), state("b"), inits=SIDECAR), ["s"]),
        (life(state("b"), lost=frozenset("a"), begun=True), ["a"]),
        (life(state("b"), lost=frozenset("a"), begun=True, policy="Never"), []),
        (life(begun=True, inits=INITS), ["a", "b"]),
    ],
)
def test_what_is_started_next(given: Life, expected: list[str]) -> None:
    """podman#18547: an init container that had done its work was restarted for ever."""
    assert starts(decide(given)) == expected


def test_a_pause_is_waited_for_and_then_over() -> None:
    given = life(exited("a", 1), state("b"), pauses={"a": Pause(3, 50.0)}, now=40.0)
    assert decide(given) == Decision((), look_at=50.0)
    assert starts(decide(replace(given, now=50.0))) == ["a"]


def test_a_container_that_its_probe_condemns_is_ended() -> None:
    sick = Verdict(True, False, False, "its liveness probe failed: x")
    given = life(state("a"), state("b"), verdicts={"a": sick})
    assert decide(given).deeds == (Stop("a", 30, sick.reason),)
    assert decide(replace(given, verdicts={"a": replace(sick, grace=3)})).deeds == (Stop("a", 3, sick.reason),)


def test_a_pod_ends_main_containers_first_and_sidecars_in_reverse() -> None:
    inits = (container("s1", restart_policy="Always"), container("s2", restart_policy="Always"))
    ending = Ending(100.0, 30.0)
    given = life(state("s1"), state("s2"), state("a"), exited("b", 0), inits=inits, ending=ending, now=110.0)
    assert decide(given).deeds == (Stop("a", 20.0, "the pod ends"),)
    given = replace(given, containers={**given.containers, "a": exited("a", 0)})
    assert [one.container for one in decide(given).deeds if isinstance(one, Stop)] == ["s2"]
    given = replace(given, containers={**given.containers, "s2": exited("s2", 0)}, now=500.0)
    assert decide(given).deeds == (Stop("s1", 1.0, "the pod ends"),)
    given = replace(given, containers={**given.containers, "s1": exited("s1", 0)})
    assert decide(given).deeds == (Gone(),)


def test_sidecars_end_when_the_pod_has() -> None:
    given = life(state("s"), exited("i", 0), exited("a", 0), exited("b", 0), inits=SIDECAR, policy="Never")
    assert [one.container for one in decide(given).deeds if isinstance(one, Stop)] == ["s"]
    assert phase_of(given)[0] == "Succeeded"


def test_a_deadline_ends_the_pod_for_good() -> None:
    given = life(state("a"), state("b"))
    given = replace(given, spec=replace(given.spec, active_deadline_seconds=60), age=59.0, now=10.0)
    assert decide(given) == Decision((), look_at=11.0)
    decision = decide(replace(given, age=60.0))
    assert decision.failed == "DeadlineExceeded" and [type(one) for one in decision.deeds] == [Stop, Stop]


@pytest.mark.parametrize(
    ("given", "phase"),
    [
        (life(), "Pending"),
        (life(state("a")), "Pending"),
        (life(state("a"), state("b")), "Running"),
        (life(exited("a", 1), state("b")), "Running"),
        (life(exited("a", 1), exited("b", 0), policy="Never"), "Failed"),
        (life(exited("a", 0), exited("b", 0), policy="Never"), "Succeeded"),
        (life(exited("a", 0), exited("b", 0)), "Running"),
        (life(exited("i1", 1), inits=INITS, policy="Never"), "Failed"),
        (life(exited("i1", 1), inits=INITS), "Pending"),
        (life(state("b"), lost=frozenset("a"), begun=True, policy="Never"), "Running"),
    ],
)
def test_phase(given: Life, phase: str) -> None:
    assert phase_of(given)[0] == phase


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["lastTransitionTime"]) for one in status["conditions"]}


def test_status_of_a_pod_on_its_way() -> None:
    seen = Seen(started_at=0.0, now=10.0, host_ip="10.0.0.1")
    pending = pod_status(life(inits=INITS), seen)
    assert pending["phase"] == "Pending" and pending["startTime"] == "1970-01-01T00:00:00Z"
    assert [one["state"]["waiting"]["reason"] for one in pending["containerStatuses"]] == ["PodInitializing"] * 2
    done = (exited("i1", 0), exited("i2", 0))
    running = pod_status(life(*done, state("a"), state("b"), inits=INITS), replace(seen, now=20.0), pending)
    assert conditions(running) == {
        "PodScheduled": ("True", "1970-01-01T00:00:10Z"),
        "Initialized": ("True", "1970-01-01T00:00:20Z"),
        "ContainersReady": ("True", "1970-01-01T00:00:20Z"),
        "Ready": ("True", "1970-01-01T00:00:20Z"),
    }
    assert running["hostIP"] == running["podIP"] == "10.0.0.1"
    assert pod_status(life(*done, state("a"), state("b"), inits=INITS), replace(seen, now=99.0), running) == running


def test_status_of_a_container_that_crashes() -> None:
    given = life(exited("a", 3), state("b"), pauses={"a": Pause(3, 50.0)}, now=40.0)
    status = pod_status(given, Seen(0.0, 2000.0, attempts={"a": 4}, waiting={}))
    (first, _) = status["containerStatuses"]
    assert first["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert first["lastState"]["terminated"]["exitCode"] == 3
    assert first["restartCount"] == 4 and not first["ready"]
    assert conditions(status)["Ready"][0] == "False"


def test_status_of_a_container_that_can_not_be_made() -> None:
    seen = Seen(0.0, 1.0, waiting={"a": ("CreateContainerError", "/mnt/x: no directory")})
    (first, _) = pod_status(life(), seen)["containerStatuses"]
    assert first["state"] == {"waiting": {"reason": "CreateContainerError", "message": "/mnt/x: no directory"}}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_qos_class(resources: dict[str, Any], expected: str) -> None:
    one = {"name": "c", "image": "host", "resources": resources}
    assert qos_class(spec_of(manifest(containers=[one]))) == expected


def test_startup_gates_the_others_and_failures_count_in_a_row() -> None:
    probe = Probe(tcp_socket=TcpSocket(1), failure_threshold=2, success_threshold=1)
    one = container("a", startup_probe=probe, liveness_probe=probe, readiness_probe=probe)
    tallies = Tallies()
    assert [due(one, tallies, kind) for kind in ("startup", "liveness", "readiness")] == [True, False, False]
    assert verdict(one, tallies) == Verdict(False, True, False)
    tallies = count(tallies, "startup", probe, True)
    assert [due(one, tallies, kind) for kind in ("startup", "liveness", "readiness")] == [False, True, True]
    assert verdict(one, tallies) == Verdict(True, True, False)
    tallies = count(tallies, "readiness", probe, True)
    assert verdict(one, tallies).ready
    for ok in (False, True, False):
        tallies = count(tallies, "liveness", probe, ok)
    assert verdict(one, tallies).alive, "not in a row"
    tallies = count(tallies, "liveness", probe, False, "HTTP 500")
    assert verdict(one, tallies) == Verdict(True, False, False, "its liveness probe failed: HTTP 500")


def test_environment_and_arguments_are_expanded_as_in_kubernetes() -> None:
    env = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)$(C)$$(A)"},
        {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['x']"}}},
        {"name": "I", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    pod = manifest(containers=[{"name": "c", "image": "host", "command": ["x", "$(B)"], "args": ["${A}", "%n"]}])
    pod["spec"]["containers"][0]["env"] = env
    pod["metadata"]["labels"] = {"x": "y"}
    (one,) = spec_of(pod).containers
    made = environment(pod, one, "10.0.0.1")
    assert made == (("A", "1"), ("B", "1$(C)$(A)"), ("N", "web"), ("L", "y"), ("I", "10.0.0.1"))
    assert arguments(one, dict(made)) == ("x", "1$(C)$(A)", "${A}", "%n")
