"""Members listen to clients at their node's address where an operator asks for it, and with TLS alone."""

from __future__ import annotations

import pytest

from protokube.core.pki.model import Certificate
from protokube.core.static_pod import manifest_env
from tests.rounds.process import Process, interleave, node_config, settled
from tests.rounds.test_pki_rounds import masters, rules
from tests.rounds.test_tls_rounds import ON, plaintext, secured, serves
from tests.rounds.world import Node, World

ASKED = node_config(etcd_tls="on", store_shared=True, node_clients=True)


def listens(world: World) -> dict[str, list[str]]:
    """Where each member of main listens to clients, by its node's name."""
    running = [one for one in world.etcd.running.values() if not one.name.startswith("etcd-events")]
    return {one.node.name: manifest_env(one.text)["ETCD_LISTEN_CLIENT_URLS"].split(",") for one in running}


def at_both(*nodes: Node) -> dict[str, list[str]]:
    return {node.name: ["https://127.0.0.1:4001", f"https://{node.address}:4001"] for node in nodes}


def alone(world: World) -> bool:
    """Whether no member listens to clients of other nodes."""
    return all(urls == ["https://127.0.0.1:4001"] for urls in listens(world).values())


def certified(node: Node) -> bool:
    """Whether the server's certificate has the node's address."""
    found = node.certificates["etcd-server-main"]
    assert isinstance(found, Certificate)
    return node.address in found.wanted.addresses


@pytest.mark.parametrize("seed", range(3))
def test_members_that_run_follow_one_by_one_and_go_back(seed: int) -> None:
    world, nodes = secured(events=False)
    assert not any(map(certified, nodes)) and alone(world)
    settled(world, interleave(world, nodes, ASKED, seed, 60))
    serves(world, 3)
    assert listens(world) == at_both(*nodes) and all(map(certified, nodes))
    settled(world, [Process(world, node, ON) for node in nodes])
    serves(world, 3)
    assert alone(world) and not any(map(certified, nodes))


def test_a_new_cluster_listens_at_once_and_a_moved_member_where_it_is() -> None:
    world = World()
    nodes = masters(world)
    processes = [Process(world, node, ASKED) for node in nodes]
    settled(world, processes)
    assert listens(world) == at_both(*nodes) and all(map(certified, nodes))
    world.power_off(nodes[2])
    for volume in world.held(nodes[2]):
        world.detach(volume)
    new = world.node("n9")
    settled(world, [*processes[:2], Process(world, new, ASKED)])
    assert listens(world) == at_both(*nodes[:2], new) and certified(new)
    serves(world)


def test_an_address_that_changes_is_followed() -> None:
    world = World()
    (node,) = masters(world, 1)
    settled(world, [Process(world, node, ASKED)])
    node.address = "10.0.9.9"
    settled(world, [Process(world, node, ASKED)])
    assert listens(world) == at_both(node) and certified(node)


def test_without_tls_nobody_but_its_own_node_reaches_a_member_and_that_is_said() -> None:
    world, nodes = plaintext(1)
    asked = node_config(etcd_tls="auto", store_shared=True, node_clients=True)
    (report,) = settled(world, [Process(world, node, asked) for node in nodes])
    assert listens(world) == {"n0": ["http://127.0.0.1:4001"]}
    assert "etcd/clients-listen" in rules(report) and report.converged
    (report,) = settled(world, [Process(world, node, ASKED) for node in nodes])
    assert listens(world) == at_both(*nodes) and "etcd/clients-listen" not in rules(report)
