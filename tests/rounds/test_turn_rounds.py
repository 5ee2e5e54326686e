"""Whatever changes a manifest, no two members of an etcd cluster restart side by side."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from protokube.core.etcd.model import EtcdTemplate
from protokube.core.etcd.turns import LIFE
from protokube.core.model import GIB
from protokube.core.settings import NodeConfig
from protokube.core.static_pod import manifest_env
from tests.rounds.process import Process, interleave, later, node_config, settled, survive, templates
from tests.rounds.test_pki_rounds import masters
from tests.rounds.test_tls_rounds import serves, three
from tests.rounds.world import Node, World

IMAGE = "registry.k8s.io/etcd:3.5.30-0"


def with_heartbeat() -> Mapping[str, EtcdTemplate]:
    """The shipped templates with one more setting."""
    mark = "        - {name: ETCD_NAME,"
    more = '        - {name: ETCD_HEARTBEAT_INTERVAL, value: "200"}\n'
    return {key: replace(one, pod=one.pod.replace(mark, more + mark)) for key, one in templates().items()}


def config(**changes: object) -> NodeConfig:
    return node_config(etcd_tls="off", etcd_image=IMAGE, **changes)


CHANGES = {
    "a quota": config(etcd_quota=8 * GIB),
    "another template": config(templates=with_heartbeat()),
    "another registry": node_config(
        etcd_tls="off", etcd_image=IMAGE.replace("registry.k8s.io", "mirror.example.com")
    ),
    "both": node_config(etcd_tls="off", etcd_image="mirror.example.com/etcd:3.5.30-0", templates=with_heartbeat()),
}


def served(count: int = 3) -> tuple[World, list[Node]]:
    """A cluster that serves."""
    world = World()
    nodes = three(world, events=False) if count == 3 else masters(world, count)
    settled(world, [Process(world, node, config()) for node in nodes])
    assert world.etcd.write("etcd", "before")
    return world, nodes


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("seed", range(3))
def test_members_restart_one_after_the_other_in_any_order_of_their_nodes_actions(what: str, seed: int) -> None:
    """The world notes a violation when a member restarts and the others are no quorum."""
    world, nodes = served()
    before = {one.text for one in world.etcd.running.values()}
    processes = interleave(world, nodes, CHANGES[what], seed, 80)
    settled(world, processes)
    serves(world, 3)
    assert not before & {one.text for one in world.etcd.running.values()}
    assert world.etcd.violations == []


@pytest.mark.parametrize("who", range(3))
def test_a_node_killed_at_any_action_ends_in_the_same_place(who: int) -> None:
    number, survived = 1, 0
    new = CHANGES["another template"]
    while survived < 2:
        for when in ("before", "after"):
            world, nodes = served()
            others = [Process(world, node, new) for node in nodes if node is not nodes[who]]
            killed = Process(world, nodes[who], new, kill=(number, when))

            def go_on(world: World = world, others: list[Process] = others, killed: Process = killed) -> None:
                for _ in range(10):
                    for process in (*others, killed):
                        process.round()
                    world.etcd.tick()

            survived += survive(killed, go_on)
            later(world, LIFE)
            settled(world, [*others, Process(world, nodes[who], new)])
            serves(world, 3)
            envs = [manifest_env(one.text) for one in world.etcd.running.values()]
            assert [one.get("ETCD_HEARTBEAT_INTERVAL") for one in envs] == ["200"] * 3
            assert world.etcd.violations == []
        number += 1
    assert number > 2


def test_a_single_member_needs_no_turn_and_a_converged_node_asks_nothing() -> None:
    world, nodes = served(1)
    process = Process(world, nodes[0], CHANGES["another template"])
    assert all(report.converged for report in settled(world, [process]))
    assert "take-turn" not in process.effects
    world, nodes = served()
    processes = [Process(world, node, CHANGES["another template"]) for node in nodes]
    assert all(report.converged for report in settled(world, processes))
    assert world.etcd.violations == [], "all three look before any member restarts"
    for process in processes:
        assert process.effects.count("take-turn") == process.effects.count("give-back") == 1
        process.reads.clear()
        process.effects.clear()
        assert process.round().converged and process.effects == []
        assert process.reads["served"] == process.reads["members"] == 0


def test_while_a_member_is_down_no_other_one_restarts() -> None:
    world, nodes = served()
    gone = next(node for node in nodes if "vol-mc" in node.mounts.values())
    world.power_off(gone)
    processes = [Process(world, node, CHANGES["another template"]) for node in nodes if node is not gone]
    for _ in range(6):
        reports = [process.round() for process in processes]
        world.etcd.tick()
    assert all("ETCD_HEARTBEAT_INTERVAL" not in one.text for one in world.etcd.running.values())
    assert any("must answer first" in one.reason for report in reports for one in report.left.waiting)
