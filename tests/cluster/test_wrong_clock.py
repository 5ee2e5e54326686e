"""One of three masters has a clock that is wrong by over a year: the others serve, and it comes back by itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.lab.kube_cluster import KubeCluster
from tests.lab.kube_node import KubeNode
from tests.lab.kube_writer import ApiWriter
from tests.lab.unit_node import UNIT
from tests.lab.wrong_clock import wrong_clock

pytestmark = [pytest.mark.root, pytest.mark.kubelet]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KubeCluster]:
    with KubeCluster(tmp_path, "abc", {"interval": 5}) as cluster:
        yield cluster


def are_converged(cluster: KubeCluster, *nodes: KubeNode) -> None:
    def converged(node: KubeNode) -> bool:
        return node.show("StatusText") == "converged"

    for node in nodes:
        cluster.until(f"{node.name} is converged", node, partial(converged, node))


def all_ready(cluster: KubeCluster, by: KubeNode) -> bool:
    return len(cluster.ready(by)) == 3


def renewed(cluster: KubeCluster, by: KubeNode, name: str) -> str:
    """When a node's kubelet has renewed its lease; empty while nobody tells."""
    lease = ("get", "lease", "-n", "kube-node-lease", name, "-o", "jsonpath={.spec.renewTime}")
    return cluster.kubectl(by, *lease).stdout


def forget_containers(node: KubeNode) -> None:
    """What docs/reference.md advises: kubelet takes containers from the future for the newest ones."""
    names = node.ctr("containers", "ls", "-q").stdout.split()
    assert names
    node.ctr("containers", "rm", *names)
    node.run("systemctl", "restart", "containerd")


@pytest.mark.parametrize(("days", "said"), [(-400, "pki/time"), (400, "etcd/no-quorum")])
def test_two_masters_serve_while_the_third_lives_in_another_year(cluster: KubeCluster, days: int, said: str) -> None:
    a, b, c = three = [cluster.control_plane(letter) for letter in "abc"]
    for node in three:
        node.run("systemctl", "start", "--no-block", UNIT)
    for node in three:
        cluster.until("all are ready", node, partial(all_ready, cluster, node))
    are_converged(cluster, *three)

    with ApiWriter(cluster, *three) as writer:
        writer.more()
        writer.through(a, b)
        c.kill()
        writer.phase("c has another year")
        with wrong_clock(c, days=days):
            c.start()
            c.run("systemctl", "start", "--no-block", UNIT)
            cluster.until("c isn't ready", a, lambda: cluster.ready(a) == {"node-a", "node-b"})
            cluster.until("c says what is wrong", c, lambda: c.said(said))
            writer.more(50)
            are_converged(cluster, a, b)
            c.kill()

        writer.phase("c has today's time again")
        last = renewed(cluster, a, "node-c")
        c.start()
        if days > 0:
            forget_containers(c)
        c.run("systemctl", "start", "--no-block", UNIT)
        cluster.until("c's kubelet is back", c, lambda: renewed(cluster, a, "node-c") not in {"", last})
        cluster.until("c serves", c, partial(all_ready, cluster, c))
        are_converged(cluster, *three)
        writer.check(c)
