"""A machine with blank disks becomes a Kubernetes cluster by protokube alone, and another joins it as a worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.kube_cluster import KubeCluster, is_ready
from tests.lab.kube_objects import SYSTEM, all_answer, apply, client, pods, server
from tests.lab.unit_node import UNIT

pytestmark = [pytest.mark.root, pytest.mark.kubelet]

COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KubeCluster]:
    with KubeCluster(tmp_path, "a") as cluster:
        yield cluster


def test_bare_machines_become_a_cluster_whose_pods_answer_each_other(cluster: KubeCluster) -> None:
    a = cluster.control_plane("a")
    a.run("systemctl", "start", UNIT)
    cluster.until("the node is ready", a, lambda: cluster.ready(a) == {"node-a"})
    cluster.until("its role is shown", a, lambda: "control-plane" in cluster.kubectl(a, "get", "nodes").stdout)
    assert "v1.20.2" in cluster.kubectl(a, "get", "nodes").stdout
    cluster.until("all components run", a, lambda: set(COMPONENTS) | {"etcd"} <= a.running())
    mirrors = {f"{one}-node-a" for one in COMPONENTS}

    def up() -> bool:
        found = pods(cluster, a, *SYSTEM)
        return mirrors <= found.keys() and all(is_ready(found[name]) for name in mirrors)

    cluster.until("the API server shows their pods, ready", a, up)
    cluster.until("the node is converged", a, lambda: a.show("StatusText") == "converged")

    made = a.run("protokube", "token", "create", "--ttl", "1h", "-o", "json")
    w = cluster.worker("w", json.loads(made.stdout))
    w.run("systemctl", "start", UNIT)
    cluster.until("the worker is ready", a, lambda: cluster.ready(a) == {"node-a", "node-w"})

    apply(cluster, a, *server(2), client("client", "node-a"), client("inside", "node-w"))

    def served() -> bool:
        found = pods(cluster, a)
        return len(found) == 4 and all(map(is_ready, found.values()))

    cluster.until("the pods are ready", a, served)
    names = {name for name, one in pods(cluster, a).items() if "app" in one["metadata"].get("labels", {})}
    assert len(names) == 2
    assert all(pods(cluster, a)[name]["spec"]["nodeName"] == "node-w" for name in names), "node-a is tainted"
    for caller in ("client", "inside"):
        all_answer(cluster, a, caller, names)
    assert "kube-proxy" in w.running()
    for name in names:
        logs = cluster.kubectl(a, "logs", name)
        assert logs.stdout == f"serving as {name}\n", logs.stderr
