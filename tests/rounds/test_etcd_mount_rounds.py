"""Members that were started with the directory of all certificates go on, and see less when they start again."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from protokube.core.etcd.model import EtcdTemplate
from protokube.core.model import GIB
from tests.rounds.process import Process, node_config, settled, templates
from tests.rounds.test_pki_rounds import masters
from tests.rounds.test_tls_rounds import serves, three
from tests.rounds.world import Node, World

PKI = "/var/lib/protokube/pki"


def with_all() -> Mapping[str, EtcdTemplate]:
    """Templates as they were: all certificates of the node are mounted, and each is read by its name."""
    found = {}
    for key, one in templates().items():
        pod = one.pod
        for which in ("server", "peer"):
            pod = pod.replace(f"${{{which}_mount}}", "${pki}").replace(
                f"${{{which}_pki}}", f"${{pki}}/etcd-{which}-{key}"
            )
        found[key] = replace(one, pod=pod)
    return found


def started(count: int) -> tuple[World, list[Node]]:
    """A cluster with TLS whose members see all certificates."""
    world = World()
    nodes = three(world, events=False) if count == 3 else masters(world, count)
    config = node_config(etcd_tls="on", store_shared=True, templates=with_all())
    settled(world, [Process(world, node, config) for node in nodes])
    assert all(f"path: {PKI}\n" in one.text for one in world.etcd.running.values())
    assert world.etcd.write("etcd", "before")
    return world, nodes


def test_a_running_member_is_not_restarted_for_that_alone() -> None:
    world, nodes = started(3)
    before = {one.data.url: one.started for one in world.etcd.running.values()}
    processes = [Process(world, node, node_config(etcd_tls="on", store_shared=True)) for node in nodes]
    settled(world, processes)
    serves(world, 3)
    assert {one.data.url: one.started for one in world.etcd.running.values()} == before
    assert not any(process.effects for process in processes)


def test_it_sees_its_own_certificates_alone_once_it_starts_for_another_reason() -> None:
    world, nodes = started(3)
    config = node_config(etcd_tls="on", store_shared=True, etcd_quota=8 * GIB)
    settled(world, [Process(world, node, config) for node in nodes])
    serves(world, 3)
    for one in world.etcd.running.values():
        assert f"path: {PKI}\n" not in one.text and f"path: {PKI}/etcd-peer-main.d\n" in one.text
