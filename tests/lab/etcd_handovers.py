"""A running etcd with TLS whose member moves to another machine, or whose certificates are all issued again, with
somebody killed on the way; for tests and `make safety`."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.lab.cluster import LIMIT, Cluster, cluster_id, etcd_pid, holders, members
from tests.lab.etcd_changes import Kill
from tests.lab.etcd_moves import ON, PATIENCE, pki, serve
from tests.lab.etcd_versions import install
from tests.lab.trial import TrialNode, until

ARRIVAL = {
    "mount": "mount ",
    "issue": "issue the certificate etcd-server-main ",
    "link": r"link /etc/kubernetes/manifests/etcd\.manifest ",
}
"""What the daemon of the machine that a member moves to logs of each of its steps."""

CERTIFICATES = ("etcd-server-main", "etcd-peer-main", "etcd-client")


def move(cluster: Cluster, nodes: Sequence[TrialNode], version: str, kill: Kill) -> list[TrialNode]:
    """The machine of one member is gone, and another one takes its volume over; the daemon there, or that machine,
    is killed after a step. Returns the nodes with members."""
    *others, gone = nodes
    before, identity = members(others[0]), cluster_id(others[0])
    (moved,) = (me for me, node in holders(*nodes).items() if node is gone)
    gone.power_cut()
    new = cluster.node("d")
    install(new, version)
    new.start_daemon(*ON)
    new.start_pods()
    until(f"after {kill.after}", lambda: re.search(ARRIVAL[kill.after], new.log()), PATIENCE)
    kill.strike(new, None, version, ON)
    until("they serve", lambda: serve([*others, new]), PATIENCE)
    assert holders(new) == {moved: new}, "another member came"
    assert (members(new), cluster_id(new)) == (before, identity), "the members have changed"
    return [*others, new]


def reissue(nodes: Sequence[TrialNode], version: str, kill: Kill) -> None:
    """Each node issues all certificates of its member again, with new keys. On the first node the command, or the
    machine, is killed when the certificate `kill.after` is on its way; no other member restarts."""
    first, *others = nodes
    serials = {node: _shown(node) for node in nodes}
    running = {node: etcd_pid(node) for node in others}
    for name in CERTIFICATES:
        if name == kill.after:
            python, m, protokube, *own = first.arguments()
            directory = first.root / f"var/lib/protokube/pki/{name}.d"
            seen = set(directory.iterdir())
            command = first.spawn("rotate.log", python, m, protokube, "pki", "rotate", name, *own)
            until("a new one is written", partial(_written, directory, seen, command), PATIENCE)
            kill.strike(first, command, version, ON)
        until(f"{name} is issued", partial(pki, first, "rotate", name), PATIENCE)
        for node in others:
            assert pki(node, "rotate", name)
    until("they serve", lambda: serve(nodes), LIMIT)
    assert {node: etcd_pid(node) for node in others} == running, "a member restarted for its certificates"
    assert all(_shown(node) != serials[node] for node in nodes)


def _written(directory: Path, seen: set[Path], command: subprocess.Popen[bytes]) -> bool:
    """Whether something new stands in a certificate's directory, or the command has ended."""
    return bool(set(directory.iterdir()) - seen) or command.poll() is not None


def _shown(node: TrialNode) -> str:
    """The certificate that etcd shows at its client port."""
    client = node.root / "var/lib/protokube/pki/etcd-client"
    script = f"openssl s_client -connect 127.0.0.1:4001 -cert {client}/tls.crt -key {client}/tls.key </dev/null"
    shown = node.run("sh", "-c", f"{script} 2>/dev/null | openssl x509 -noout -serial")
    assert shown.returncode == 0, shown.stderr
    return shown.stdout.strip()
