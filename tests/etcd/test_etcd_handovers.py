"""A member with TLS moves to another machine, and certificates are issued again, while a client writes all the time.

Somebody is killed on the way; `make safety` kills at every step.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.etcd_changes import Kill
from tests.lab.etcd_handovers import move, reissue
from tests.lab.etcd_moves import ON, machines
from tests.lab.etcd_writer import Writer

pytestmark = pytest.mark.root


@pytest.mark.parametrize(("version", "kill"), [("3.5.30", Kill("daemon", "issue"))])
def test_a_member_moves_to_another_machine(tmp_path: Path, version: str, kill: Kill) -> None:
    with machines(tmp_path, version, ON) as (cluster, nodes), Writer(cluster, *nodes) as writer:
        writer.more()
        writer.phase("the move")
        *_, new = move(cluster, nodes, version, kill)
        writer.phase("the end")
        writer.more()
        writer.check(nodes[0])
        Writer(cluster, new).holds(new, dict(writer.kept))


@pytest.mark.parametrize(
    ("version", "kill"),
    [("3.5.16", Kill("command", "etcd-peer-main")), ("3.5.30", Kill("machine", "etcd-server-main"))],
)
def test_certificates_are_issued_again_and_no_member_restarts_for_them(
    tmp_path: Path, version: str, kill: Kill
) -> None:
    with machines(tmp_path, version, ON) as (cluster, nodes), Writer(cluster, *nodes) as writer:
        writer.more()
        writer.phase("the exchange")
        reissue(nodes, version, kill)
        writer.phase("the end")
        writer.more()
        writer.check(nodes[2])
