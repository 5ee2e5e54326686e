"""Components and what lies outside of their pods: a container runtime that is down, an API server elsewhere."""

from __future__ import annotations

import pytest

from protokube.core.controlplane.component import RUNTIMES, SETTLED
from protokube.core.controlplane.names import API_SERVER, SCHEDULER
from protokube.core.controlplane.paths import good_path, pod_path
from protokube.core.node.model import UnitState
from tests.rounds.process import Process
from tests.rounds.test_control_plane_rounds import configured, converged_plane, rounds, text
from tests.rounds.world import World


@pytest.mark.parametrize("unit", sorted(RUNTIMES))
def test_a_pod_that_no_container_runtime_started_is_not_the_one_to_go_back_to(unit: str) -> None:
    world = World()
    node, _ = converged_plane(world)
    good = text(node, good_path(API_SERVER))
    node.leftover = {API_SERVER}  # its container outlives the runtime, and answers
    node.runtimes = {unit: UnitState("loaded", "failed", "failed", started_at=world.clock() - 9000)}
    process = Process(world, node, configured({API_SERVER: {"logLevel": 9}}))
    for _ in range(3):
        process.round()
        world.age(SETTLED + 1)
    assert "--v=9" in text(node, pod_path(API_SERVER)) and text(node, good_path(API_SERVER)) == good
    node.runtimes = {unit: UnitState("loaded", "active", "running", started_at=world.clock())}
    rounds(process)
    assert text(node, good_path(API_SERVER)) == good
    world.age(SETTLED + 1)
    rounds(process)
    assert "--v=9" in text(node, good_path(API_SERVER))


def test_an_api_server_elsewhere_that_is_down_holds_up_the_api_server_alone() -> None:
    world = World()
    node, _ = converged_plane(world)
    other = world.node("n2")
    world.volume("vol-n", "b/a,b")
    world.volumes["vol-n"].holder = other.name
    other.ill = "dead"
    process = Process(world, node, configured({API_SERVER: {"logLevel": 2}, SCHEDULER: {"parallelism": 8}}))
    for _ in range(4):
        report = rounds(process)
        world.age(SETTLED + 1)
    assert "--v=2" not in text(node, pod_path(API_SERVER))
    assert any("it isn't changed" in one.reason for one in report.left.waiting)
    config = [path for path in node.files if path.startswith("/etc/kubernetes/kube-scheduler/")]
    assert len(config) == 1 and "parallelism: 8" in text(node, config[0])
