"""Three machines' plaintext etcd moves to TLS, and authorities are replaced, under a client that writes all the time.

Real disks, real etcd of three versions, a network namespace for each machine. Some daemons and machines are killed on
the way; `make safety` kills at every step.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.cluster import LIMIT, cluster_id, members
from tests.lab.etcd_moves import OFF, ON, cut, machines, move_to_tls, replace_step, secure, serve
from tests.lab.etcd_writer import Writer
from tests.lab.trial import until

pytestmark = pytest.mark.root

ELECTIONS = 30.0
"""Seconds: many elections, on however busy a machine. etcd's own measured gap is below two."""


@pytest.mark.parametrize("version", ["3.4.23", "3.5.30"])
def test_a_plaintext_cluster_moves_to_tls_while_it_serves(tmp_path: Path, version: str) -> None:
    with machines(tmp_path, version, OFF) as (cluster, nodes), Writer(cluster, *nodes) as writer:
        identity, before = cluster_id(nodes[0]), members(nodes[0])
        writer.more()
        writer.phase("the move")
        move_to_tls(nodes)
        writer.phase("the end")
        writer.more()
        writer.check(nodes[1])
        assert (cluster_id(nodes[0]), members(nodes[0])) == (identity, before)
        assert writer.longest < ELECTIONS
        plain = nodes[0].run("curl", "-s", "--max-time", "5", "http://127.0.0.1:4001/health")
        assert "true" not in plain.stdout
        if version == "3.4.23":
            for node in nodes:
                node.power_cut()
            for node in nodes:
                node.power_on()
                node.start_daemon("--interval", "1")
                node.start_pods()
            until("they come back with TLS", lambda: serve(nodes) and all(map(secure, nodes)), LIMIT)
            writer.check(nodes[0])


@pytest.mark.parametrize(("member", "step", "power"), [("a", "update-member", False), ("b", "manifest", True)])
def test_whoever_is_killed_on_the_way_to_tls(tmp_path: Path, member: str, step: str, power: bool) -> None:
    with machines(tmp_path, "3.5.16", OFF) as (cluster, nodes), Writer(cluster, *nodes) as writer:
        writer.more()
        move_to_tls(nodes, cut(member, step, power=power, version="3.5.16"))
        writer.more()
        writer.check(nodes[0])


@pytest.mark.parametrize(
    ("version", "member", "step", "power"), [("3.4.23", "a", "manifest", False), ("3.5.30", "b", "tell", True)]
)
def test_the_peers_authority_is_replaced_under_load(
    tmp_path: Path, version: str, member: str, step: str, power: bool
) -> None:
    with machines(tmp_path, version, ON) as (cluster, nodes), Writer(cluster, *nodes) as writer:
        writer.more()
        file = nodes[0].root / "var/lib/protokube/pki/etcd-peer-main/ca.crt"
        first = file.read_text()
        writer.phase("bundle")
        replace_step(nodes, restarts=True, killing=cut(member, step, power=power, version=version))
        writer.phase("reissue")
        replace_step(nodes, restarts=False)
        writer.phase("drop")
        replace_step(nodes, restarts=True)
        writer.more()
        last = file.read_text()
        assert last.count("BEGIN") == 1 and last != first
        writer.check(nodes[2])
        nodes[1].power_cut()
        writer.more()


def test_the_clients_authority_is_replaced_under_load(tmp_path: Path) -> None:
    """The client reads its certificate and the authorities to trust with each connection, as API servers do."""
    with machines(tmp_path, "3.5.16", ON) as (cluster, nodes), Writer(cluster, *nodes) as writer:
        files = nodes[0].root / "var/lib/protokube/pki"
        first = (files / "etcd-client/ca.crt").read_text()
        for phase, restarts in (("bundle", True), ("reissue", False), ("drop", True)):
            writer.more()
            writer.phase(phase)
            replace_step(nodes, "etcd-clients", restarts=restarts)
        writer.more()
        last = {(files / name / "ca.crt").read_text() for name in ("etcd-client", "etcd-server-main")}
        assert len(last) == 1 and first not in last and "".join(last).count("BEGIN") == 1
        writer.check(nodes[2])
        assert writer.longest < ELECTIONS
