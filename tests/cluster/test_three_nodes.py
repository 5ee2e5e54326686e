"""Three machines with blank disks become a control plane, a fourth stands by, and a fifth is a worker.

They serve under a client that writes all the time: while certificates are exchanged, while a flag changes, and when
one of them loses power and its volumes move to the standby.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

from protokube.core.controlplane.names import API_SERVER
from protokube.core.controlplane.paths import good_path, pod_path
from protokube.core.pki.model import PKI_DIR
from tests.lab.kube_cluster import API_PORT, KubeCluster, is_ready
from tests.lab.kube_node import KubeNode
from tests.lab.kube_objects import all_answer, apply, client, pods, server
from tests.lab.kube_writer import ApiWriter
from tests.lab.unit_node import UNIT

pytestmark = [pytest.mark.root, pytest.mark.kubelet]

KUBELET_PORT = 10250


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KubeCluster]:
    with KubeCluster(tmp_path, "abc", {"interval": 5}) as cluster:
        yield cluster


def start(*nodes: KubeNode) -> None:
    for node in nodes:
        node.run("systemctl", "start", "--no-block", UNIT)


def are_ready(cluster: KubeCluster, by: KubeNode, *nodes: KubeNode) -> None:
    names = {node.name for node in nodes}
    cluster.until(f"{', '.join(sorted(names))} are ready", by, lambda: cluster.ready(by) >= names)


def are_converged(cluster: KubeCluster, *nodes: KubeNode) -> None:
    def converged(node: KubeNode) -> bool:
        return node.show("StatusText") == "converged"

    for node in nodes:
        cluster.until(f"{node.name} is converged", node, partial(converged, node))


def served(cluster: KubeCluster, node: KubeNode, port: int) -> int:
    """The serial number of the certificate that a port of the node shows; 0 while none does."""
    with cluster.inside(node):
        try:
            pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=10)
        except OSError:
            return 0
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def on_disk(node: KubeNode, name: str) -> int:
    """The serial number of a certificate of the node's."""
    pem = node.path(f"{PKI_DIR}/{name}/tls.crt").read_bytes()
    return x509.load_pem_x509_certificate(pem).serial_number


def servers(node: KubeNode) -> set[str]:
    """The containers in which an API server runs."""
    return {one for one, program in node.containers().items() if program == API_SERVER}


def exchange_certificates(cluster: KubeCluster, node: KubeNode, *, everything: bool) -> None:
    """Issue certificates of a node again, all or those that it serves with, and wait until these are used; no pod
    restarts."""
    before, ports = servers(node), {"apiserver": API_PORT, "kubelet-server": KUBELET_PORT}
    names = {one.name for one in node.path(PKI_DIR).iterdir() if one.is_symlink() and (one / "tls.crt").exists()}
    old = {name: on_disk(node, name) for name in names - {"signing-authority"}}
    assert set(ports) < set(old)
    for name in sorted(old if everything else ports):
        node.run("protokube", "pki", "rotate", name, "--yes")
    assert all(on_disk(node, name) != old[name] for name in (old if everything else ports))
    node.run("systemctl", "reload", UNIT)

    def serves_the_new_one(name: str) -> bool:
        return served(cluster, node, ports[name]) == on_disk(node, name)

    for name in ports:
        cluster.until(f"{node.name} serves with the new {name}", node, partial(serves_the_new_one, name))
    assert servers(node) == before, "an exchanged certificate is read again, without a restart"


def is_good_with(node: KubeNode, flag: str) -> bool:
    """Whether an API server with this flag has been up."""
    return flag in node.path(good_path(API_SERVER)).read_text()


def reads_logs(cluster: KubeCluster, node: KubeNode, names: set[str]) -> bool:
    return all(cluster.kubectl(node, "logs", name).stdout == f"serving as {name}\n" for name in names)


def test_three_machines_serve_whatever_happens_to_one(cluster: KubeCluster) -> None:
    a, b, c = three = [cluster.control_plane(letter) for letter in "abc"]
    start(*three)
    for node in three:
        are_ready(cluster, node, *three)
    are_converged(cluster, *three)
    d = cluster.control_plane("d")
    made = a.run("protokube", "token", "create", "--ttl", "1h", "-o", "json")
    w = cluster.worker("w", json.loads(made.stdout))
    start(d, w)
    are_ready(cluster, a, *three, d, w)

    apply(cluster, a, *server(2), client("client", "node-a"))
    cluster.until(
        "its pods run", a, lambda: len(pods(cluster, a)) == 3 and all(map(is_ready, pods(cluster, a).values()))
    )
    names = {name for name, one in pods(cluster, a).items() if one["spec"]["nodeName"] == "node-w"}
    assert len(names) == 2, "control-plane nodes are tainted"
    all_answer(cluster, a, "client", names)

    with ApiWriter(cluster, *three) as writer:
        writer.more()
        writer.phase("certificates are exchanged")
        for node in three:
            exchange_certificates(cluster, node, everything=node is c)
            cluster.until("logs are read through it", node, partial(reads_logs, cluster, node, names))
        writer.more()

        writer.phase("a flag changes")
        for node in (*three, d):
            node.configure(kubeAPIServer={"maxRequestsInflight": 401})
            node.run("systemctl", "reload", UNIT)
        for node in three:
            cluster.until("the flag is good", node, partial(is_good_with, node, "inflight=401"))
        are_converged(cluster, *three)
        writer.more()

        writer.phase("b loses power")
        writer.through(a, c, b)
        volumes = b.mounts().keys()
        b.kill()
        writer.more()
        writer.phase("the standby takes over")
        cluster.until("d has b's volumes", d, lambda: d.mounts().keys() == volumes)
        cluster.until("its API server answers", d, lambda: cluster.ready(d))
        writer.through(d)
        writer.more()
        are_converged(cluster, a, c, d)
        writer.check(d)
        writer.check(a)
    all_answer(cluster, a, "client", names)
    assert "inflight=401" in d.path(good_path(API_SERVER)).read_text()
    assert d.path(good_path(API_SERVER)).read_text() == d.path(pod_path(API_SERVER)).read_text()
