"""Several nodes with an API server: one changes after the other, and a dead machine holds nobody up."""

from __future__ import annotations

import pytest

from protokube.core.controlplane.component import SETTLED
from protokube.core.controlplane.names import API_SERVER, MANAGER
from protokube.core.controlplane.paths import condemned_path, good_path, pod_path
from protokube.core.controlplane.turns import LIFE
from protokube.errors import ProviderError
from tests.rounds.process import Process, survive
from tests.rounds.test_control_plane_rounds import Layers, configured, once, planes, rules, text
from tests.rounds.world import Node, World

CHANGE: Layers = {API_SERVER: {"logLevel": 2}}


def rounds(world: World, processes: list[Process], count: int) -> None:
    """Reconciles of each node, a minute apart: a change that came up is settled in the next one."""
    for _ in range(count):
        for process in processes:
            process.round()
        world.etcd.tick()
        now = world.clock() + SETTLED + 1
        world.clock = lambda now=now: now  # type: ignore[misc]


def changed(nodes: list[Node], word: str = "--v=2") -> list[str]:
    return [node.name for node in nodes if word in text(node, pod_path(API_SERVER))]


def in_flight(nodes: list[Node]) -> list[str]:
    """The nodes whose API server was changed and hasn't come up yet."""
    return [node.name for node in nodes if text(node, pod_path(API_SERVER)) != text(node, good_path(API_SERVER))]


@pytest.mark.parametrize("count", [2, 3])
def test_nodes_change_their_api_servers_one_after_the_other(count: int) -> None:
    world = World()
    nodes, _ = planes(world, count)
    processes = [Process(world, node, configured(CHANGE)) for node in nodes]
    for _ in range(4 * count):
        rounds(world, processes, 1)
        assert len(in_flight(nodes)) <= 1
    assert len(changed(nodes)) == count
    assert all(process.round().left.converged for process in processes)
    for process in processes:
        assert process.effects.count("give-back") == 1 <= process.effects.count("take-turn")
        process.reads.clear()
        assert process.round().left.converged and not process.reads["served"]


def test_one_bad_answer_of_its_own_api_server_gives_no_node_a_turn() -> None:
    world = World()
    nodes, _ = planes(world)
    slow, fast = nodes
    processes = [Process(world, node, configured(CHANGE)) for node in nodes]
    for _ in range(4):
        processes[1].round()
        if changed([fast]):
            break
    assert in_flight(nodes) == [fast.name]
    slow.ill = "a moment's trouble"
    for _ in range(3):
        processes[0].round()
    slow.ill = ""
    processes[0].round()
    assert changed(nodes) == [fast.name]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_node_that_dies_with_the_turn_holds_up_nobody_for_long(number: int) -> None:
    """It dies after it took the turn, after it wrote the pod, after it made the link."""
    world = World()
    nodes, _ = planes(world, 3)
    killed = Process(world, nodes[0], configured(CHANGE), kill=(number, "after"))
    assert not survive(killed, lambda: rounds(world, [killed], 2)) and killed.effects[0] == "take-turn"
    world.power_off(nodes[0])
    nodes[0].ghost = True
    others = [Process(world, node, configured(CHANGE)) for node in nodes[1:]]
    rounds(world, others, 1)
    assert changed(nodes[1:]) == [], "the turn is still the dead one's"
    for _ in range(-(-LIFE // int(SETTLED)) + 5):
        rounds(world, others, 1)
        assert len(in_flight(nodes[1:])) <= 1
    assert len(changed(nodes[1:])) == 2


def test_a_dead_machine_that_counts_as_running_holds_up_nobody() -> None:
    world = World()
    nodes, _ = planes(world, 3)
    world.power_off(nodes[2])
    nodes[2].ghost = True
    processes = [Process(world, node, configured(CHANGE)) for node in nodes[:2]]
    for _ in range(8):
        rounds(world, processes, 1)
        assert len(in_flight(nodes)) <= 1
    assert changed(nodes) == ["n1", "n2"]


def test_an_api_server_that_is_down_on_a_machine_that_lives_holds_the_others_up() -> None:
    world = World()
    nodes, _ = planes(world, 3)
    nodes[2].bad_words = {API_SERVER}
    processes = [Process(world, node, configured(CHANGE)) for node in nodes[:2]]
    rounds(world, processes, 4)
    assert changed(nodes) == []
    # Its own node mends it: nobody listens there, and so nothing is waited for but the turn.
    once(world, [Process(world, nodes[2], configured(CHANGE))])
    assert changed(nodes) == ["n3"]


def test_while_etcd_cannot_be_asked_nothing_that_runs_is_changed() -> None:
    world = World()
    nodes, _ = planes(world)
    process = Process(world, nodes[0], configured(CHANGE))
    process.broken["served"] = ProviderError("no answer within 5 s")
    rounds(world, [process], 3)
    report = process.round()
    assert changed(nodes) == []
    assert any("can't be asked whose turn it is" in one.reason for one in report.left.waiting)
    nodes[0].bad_words = {API_SERVER}
    once(world, [process])
    assert changed(nodes) == ["n1"], "it is down: a restart takes nothing away"


def test_no_node_changes_its_api_server_while_another_one_is_down() -> None:
    world = World()
    nodes, _ = planes(world)
    for node in nodes:
        node.bad_words = {"--v=9"}
    processes = [Process(world, node, configured({API_SERVER: {"logLevel": 9}})) for node in nodes]
    for _ in range(14):
        rounds(world, processes, 1)
        assert len(changed(nodes, "--v=9")) <= 1
    assert any(condemned_path(API_SERVER) in node.files for node in nodes)


def upgraded(world: World, nodes: list[Node], versions: dict[str, str], most: int = 14) -> list[Process]:
    processes = [Process(world, node, configured(version=versions[node.name])) for node in nodes]
    rounds(world, processes, most)
    return processes


def test_no_controller_manager_becomes_newer_than_an_api_server_elsewhere() -> None:
    world = World()
    nodes, _ = planes(world)
    first, second = upgraded(world, nodes, {"n1": "1.37.1", "n2": "1.36.2"})
    assert ":v1.37" in text(nodes[0], pod_path(API_SERVER)) and ":v1.36" in text(nodes[0], pod_path(MANAGER))
    waits = [one.reason for one in first.round().left.waiting if one.subject == MANAGER]
    assert waits == ["kube-controller-manager 1.37.1 would be newer than the API server of n2, which is 1.36.2"]
    assert second.round().left.converged
    # A kubelet that was exchanged too early is named; it isn't stopped.
    world.kubelet = "1.37.1"
    told = [one.evidence for one in first.round().left.refusals if one.rule == "control-plane/skew"]
    assert told == ["kubelet 1.37.1 would be newer than the API server of n2, which is 1.36.2"]
    done = upgraded(world, nodes, {"n1": "1.37.1", "n2": "1.37.1"})
    assert [process.round().left.waiting for process in done] == [[], []]
    assert all(":v1.37" in text(node, pod_path(MANAGER)) for node in nodes)


def test_api_servers_and_what_stands_beside_them_are_at_most_one_minor_version_apart() -> None:
    world = World()
    nodes, _ = planes(world)
    upgraded(world, nodes, {"n1": "1.37.1", "n2": "1.36.2"})
    first, _ = upgraded(world, nodes, {"n1": "1.38.0", "n2": "1.36.2"}, 3)
    assert ":v1.37" in text(nodes[0], pod_path(API_SERVER))
    report = first.round()
    assert "control-plane/skew" in rules(report)
    told = [one.evidence for one in report.left.refusals]
    assert any("when kube-controller-manager, which is 1.36.2, is 1.37" in one for one in told)
