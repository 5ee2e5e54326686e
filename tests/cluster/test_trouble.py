"""What a control-plane node depends on is away or slow: the store at its boot, and etcd under the API server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protokube.core.controlplane.names import API_SERVER, COMPONENTS
from protokube.core.controlplane.paths import good_path
from protokube.core.pki.model import PKI_DIR
from tests.lab.kube_cluster import KubeCluster
from tests.lab.kube_node import KubeNode
from tests.lab.kube_writer import ApiWriter
from tests.lab.trial import CLUSTER
from tests.lab.unit_node import UNIT

pytestmark = [pytest.mark.root, pytest.mark.kubelet]

LEASE = ("get", "lease", "-n", "kube-node-lease", "node-a", "-o", "jsonpath={.spec.renewTime}")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KubeCluster]:
    with KubeCluster(tmp_path, "a", {"interval": 5}) as cluster:
        yield cluster


def is_converged(cluster: KubeCluster, a: KubeNode) -> None:
    cluster.until("the node is ready", a, lambda: cluster.ready(a) == {"node-a"})
    cluster.until("it is converged", a, lambda: a.show("StatusText") == "converged")


def lives(cluster: KubeCluster, a: KubeNode) -> None:
    """kubelet speaks with the API server now, and didn't just do so in the past."""
    before = cluster.until("the lease is read", a, lambda: cluster.kubectl(a, *LEASE).stdout)

    def renewed() -> bool:
        done = cluster.kubectl(a, *LEASE)
        return done.returncode == 0 and done.stdout != before

    cluster.until("kubelet renews its lease", a, renewed)


def test_a_node_boots_while_the_store_is_away(cluster: KubeCluster) -> None:
    store, away = cluster.shared / "store", cluster.shared / "away"
    store.rename(away)
    a = cluster.control_plane("a")
    a.run("systemctl", "start", "--no-block", UNIT)
    cluster.until("it says that the store is away", a, lambda: a.said("store/unreadable"))
    assert not a.path(f"{PKI_DIR}/apiserver").exists(), "no authority is made beside the store"
    away.rename(store)
    is_converged(cluster, a)
    assert (store / CLUSTER / "pki/v1.json").exists()

    store.rename(away)
    a.kill()
    a.start()
    a.run("systemctl", "start", "--no-block", UNIT)
    lives(cluster, a)
    cluster.until("all components run", a, lambda: a.running() >= {*COMPONENTS, "etcd"})
    assert not store.exists()
    away.rename(store)
    a.run("systemctl", "reload", UNIT)
    is_converged(cluster, a)


@contextmanager
def slow_etcd(node: KubeNode, seconds: float) -> Iterator[None]:
    """etcd stands still for so long again and again, as on a disk that many others use."""
    stand = f"pkill -STOP -x etcd; sleep {seconds}; pkill -CONT -x etcd; sleep 0.3"
    run = ["systemd-run", "--quiet", "--unit=slow", "--property=ExecStopPost=-pkill -CONT -x etcd"]
    node.run(*run, "sh", "-c", f"while :; do {stand}; done")
    yield
    node.run("systemctl", "stop", "slow")


def containers(node: KubeNode) -> dict[str, str]:
    """The containers that run, without those that only hold a pod's namespaces."""
    return {one: program for one, program in node.containers().items() if program != "pause"}


def test_a_slow_etcd_ends_nothing_and_holds_nothing_up_for_good(cluster: KubeCluster) -> None:
    a = cluster.control_plane("a")
    a.run("systemctl", "start", UNIT)
    is_converged(cluster, a)
    cluster.until("all components run", a, lambda: a.running() >= {*COMPONENTS, "etcd"})
    etcd = {one for one, program in containers(a).items() if program == "etcd"}
    with ApiWriter(cluster, a) as writer:
        writer.more()
        first = containers(a)
        writer.phase("etcd takes a second")
        with slow_etcd(a, 1.0):
            writer.more(30)
            lives(cluster, a)
            assert containers(a) == first, "nothing is restarted for being slow"

            writer.phase("a flag changes")
            a.configure(kubeAPIServer={"maxRequestsInflight": 401})
            a.run("systemctl", "reload", UNIT)
            cluster.until("the new flag is good", a, lambda: "=401" in a.path(good_path(API_SERVER)).read_text())
            writer.more()

        writer.phase("etcd takes half a minute")
        with slow_etcd(a, 30.0):
            lives(cluster, a)
        writer.more()
        is_converged(cluster, a)
        lives(cluster, a)
        writer.check(a)
    assert not a.said("control-plane/rolled-back")
    assert etcd <= containers(a).keys(), "etcd was slow, and not ill"
