"""Another etcd image reaches the members one at a time; whoever is killed in between, and whatever image is wrong."""

from __future__ import annotations

import pytest

from protokube.reconcile import Cause
from tests.rounds.process import Process, interleave, node_config, settled, survive
from tests.rounds.test_pki_rounds import masters, rules
from tests.rounds.test_tls_rounds import identity, serves, three
from tests.rounds.world import Node, World

IMAGE = "registry.k8s.io/etcd:{}-0"
OLD, NEW = (node_config(etcd_tls="off", etcd_image=IMAGE.format(one)) for one in ("3.4.23", "3.5.30"))
FAR = node_config(etcd_tls="off", etcd_image=IMAGE.format("3.6.8"))


def running(world: World) -> set[str]:
    """The versions that run."""
    return {one.version for one in world.etcd.running.values()}


def old(count: int = 3, *, events: bool = False) -> tuple[World, list[Node]]:
    """A cluster of the old version that serves."""
    world = World()
    nodes = three(world, events=events) if count == 3 else masters(world, count)
    settled(world, [Process(world, node, OLD) for node in nodes])
    assert running(world) == {"3.4.23"} and world.etcd.write("etcd", "before")
    return world, nodes


def upgraded(world: World, members: int = 3) -> None:
    serves(world, members)
    assert running(world) == {"3.5.30"}


@pytest.mark.parametrize("count", [1, 3])
def test_a_cluster_is_upgraded_one_member_at_a_time(count: int) -> None:
    world, nodes = old(count, events=True)
    processes = [Process(world, node, NEW) for node in nodes]
    reports = settled(world, processes)
    upgraded(world, 2 * count)
    assert all(report.converged for report in reports)
    assert {identity(world, volume).etcd_version for volume in world.volumes} == {"3.5.30"}
    for process in processes:
        process.reads.clear()
        process.effects.clear()
        assert process.round().converged and process.effects == []
        assert process.reads["served"] == process.reads["members"] == process.reads["about"] == 0


@pytest.mark.parametrize("seed", range(20))
def test_members_go_in_any_order_of_their_nodes_actions(seed: int) -> None:
    world, nodes = old()
    settled(world, interleave(world, nodes, NEW, seed, 100))
    upgraded(world)


@pytest.mark.parametrize("who", range(3))
def test_a_node_killed_at_any_action_ends_in_the_same_place(who: int) -> None:
    number, survived = 1, 0
    while survived < 2:
        for when in ("before", "after"):
            world, nodes = old()
            others = [Process(world, node, NEW) for node in nodes if node is not nodes[who]]
            killed = Process(world, nodes[who], NEW, kill=(number, when))

            def go_on(world: World = world, others: list[Process] = others, killed: Process = killed) -> None:
                for _ in range(10):
                    for process in (*others, killed):
                        process.round()
                    world.etcd.tick()

            survived += survive(killed, go_on)
            settled(world, [*others, Process(world, nodes[who], NEW)])
            upgraded(world)
        number += 1
    assert number > 2


def test_a_step_that_is_too_far_is_refused_and_etcd_runs_on() -> None:
    world, nodes = old()
    report = settled(world, [Process(world, node, FAR) for node in nodes])[0]
    assert "etcd/version" in rules(report)
    assert running(world) == {"3.4.23"}
    serves(world, 3)


def test_while_a_member_is_down_no_other_one_restarts() -> None:
    world, nodes = old()
    gone = next(node for node in nodes if "vol-mc" in node.mounts.values())
    world.power_off(gone)
    processes = [Process(world, node, NEW) for node in nodes if node is not gone]
    for _ in range(6):
        reports = [process.round() for process in processes]
        world.etcd.tick()
    assert running(world) == {"3.4.23"}
    assert any("must answer first" in one.reason for report in reports for one in report.left.waiting)


def test_an_image_that_never_comes_up_is_corrected_by_another_one() -> None:
    """Also by the old one: what never ran doesn't count as having run."""
    for remedy in (OLD, node_config(etcd_tls="off", etcd_image=IMAGE.format("3.5.31"))):
        world, nodes = old()
        world.etcd.broken_image = IMAGE.format("3.5.30")
        processes = [Process(world, node, NEW) for node in nodes]
        for _ in range(6):
            reports = [process.round() for process in processes]
            world.etcd.tick()
        assert len(world.etcd.running) == 2 and running(world) == {"3.4.23"}, "the others go on"
        assert world.etcd.write("etcd", "meanwhile")
        assert identity(world, "vol-ma").etcd_version == "3.4.23"
        assert any("it starts with etcd 3.5.30" in one.reason for report in reports for one in report.left.waiting)
        settled(world, [Process(world, node, remedy) for node in nodes])
        serves(world, 3)
        assert running(world) == ({"3.4.23"} if remedy is OLD else {"3.5.31"})


def test_the_health_of_etcd_is_asked_rarely_and_when_a_person_asks() -> None:
    world, nodes = old()
    processes = [Process(world, node, OLD) for node in nodes]
    for process in processes:
        process.round()
        assert process.reads["health"] == 1
        process.round()
        assert process.reads["health"] == 1
        process.round(Cause.PERSON)
        assert process.reads["health"] == 2


def test_a_silent_member_is_in_every_node_s_report_and_no_trouble_of_the_node() -> None:
    world, nodes = old()
    gone = next(node for node in nodes if "vol-mc" in node.mounts.values())
    world.power_off(gone)
    world.etcd.tick()
    for node in nodes:
        if node is not gone:
            report = Process(world, node, OLD).rounds()
            assert "etcd/member-silent" in rules(report)
            assert not any(one.serious for one in report.left.refusals if one.rule == "etcd/member-silent")
