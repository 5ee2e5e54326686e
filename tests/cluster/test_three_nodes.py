"""Three machines with blank disks become a control plane, a fourth stands by, and a fifth is a worker.

They serve under a client that writes all the time: while certificates are exchanged, while a flag changes, and when
one of them loses power and its volumes move to the standby.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.core.controlplane.paths import good_path, pod_path
from protokube.core.controlplane.schemas import API_SERVER
from tests.lab.kube_cluster import KubeCluster, is_ready
from tests.lab.kube_node import KubeNode
from tests.lab.kube_objects import all_answer, apply, client, pods, server
from tests.lab.kube_writer import ApiWriter
from tests.lab.unit_node import UNIT

pytestmark = pytest.mark.root


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
    for node in nodes:
        cluster.until("it is converged", node, lambda node=node: node.show("StatusText") == "converged")


def test_three_machines_serve_whatever_happens_to_one(cluster: KubeCluster) -> None:
    a, b, c = three = [cluster.control_plane(letter) for letter in "abc"]
    start(*three)
    are_ready(cluster, a, *three)
    for node in (b, c):
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
    all_answer(cluster, a, "client", names)
    with ApiWriter(cluster, *three) as writer:
        writer.more()
        writer.phase("b loses power")
        writer.through(a, c, b)
        b.kill()
        writer.more()
        cluster.until("d has b's volume", d, lambda: (d.path("/mnt/master-main-b/k8s.io")).is_dir())
        cluster.until("its API server answers", d, lambda: cluster.ready(d))
        writer.through(d)
        writer.more()
        are_converged(cluster, a, c, d)
        writer.check(d)
        writer.check(a)
    all_answer(cluster, a, "client", names)
    assert d.path(good_path(API_SERVER)).read_text() == d.path(pod_path(API_SERVER)).read_text()
