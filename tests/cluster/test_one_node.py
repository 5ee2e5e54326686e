"""A machine with blank disks becomes a Kubernetes cluster by protokube alone, and another joins it as a worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.kube_cluster import KubeCluster, is_ready
from tests.lab.kube_node import KubeNode
from tests.lab.kubernetes import POD_IMAGE
from tests.lab.unit_node import UNIT

pytestmark = pytest.mark.root

COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KubeCluster]:
    with KubeCluster(tmp_path, "a") as cluster:
        yield cluster


def pods(cluster: KubeCluster, node: KubeNode, *selector: str) -> dict[str, dict[str, Any]]:
    """The pods by name, as the API server of a node shows them."""
    done = cluster.kubectl(node, "get", "pods", *selector, "-o", "json")
    listed = json.loads(done.stdout)["items"] if done.returncode == 0 else []
    return {one["metadata"]["name"]: one for one in listed}


def apply(cluster: KubeCluster, node: KubeNode, *manifests: dict[str, Any]) -> None:
    """kubectl apply."""
    listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
    done = cluster.kubectl(node, "apply", "-f", "-", stdin=json.dumps(listed))
    assert done.returncode == 0, done.stderr


def server(replicas: int) -> list[dict[str, Any]]:
    """A Deployment whose pods answer with their names, and its Service."""
    labels = {"app": "server"}
    container = {
        "name": "server",
        "image": POD_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["pod-program", "serve", "8080"],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    named = {"metadata": {"name": "server"}}
    ports = {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", **named, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", **named, "spec": ports},
    ]


def client(name: str, node: str) -> dict[str, Any]:
    """A pod on a node that waits for commands; it tolerates a control-plane node."""
    container = {"name": "client", "image": POD_IMAGE, "imagePullPolicy": "Never"}
    spec = {"nodeName": node, "containers": [container], "tolerations": [{"operator": "Exists"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_bare_machines_become_a_cluster_whose_pods_answer_each_other(cluster: KubeCluster) -> None:
    a = cluster.control_plane("a")
    a.run("systemctl", "start", UNIT)
    cluster.until("the node is ready", a, lambda: cluster.ready(a) == {"node-a"})
    cluster.until("its role is shown", a, lambda: "control-plane" in cluster.kubectl(a, "get", "nodes").stdout)
    assert "v1.20.2" in cluster.kubectl(a, "get", "nodes").stdout
    cluster.until("all components run", a, lambda: set(COMPONENTS) | {"etcd"} <= a.running())
    mirrors = {f"{one}-node-a" for one in COMPONENTS}

    def up() -> bool:
        found = pods(cluster, a, "-n", "kube-system")
        return mirrors <= found.keys() and all(is_ready(found[name]) for name in mirrors)

    cluster.until("the API server shows their pods, ready", a, up)
    cluster.until("the node is converged", a, lambda: a.show("StatusText") == "converged")

    made = a.run("protokube", "token", "create", "--ttl", "1h", "-o", "json")
    w = cluster.worker("w", json.loads(made.stdout))
    w.run("systemctl", "start", UNIT)
    cluster.until("the worker is ready", a, lambda: cluster.ready(a) == {"node-a", "node-w"})

    apply(cluster, a, *server(2), client("client", "node-a"))

    def served() -> bool:
        found = pods(cluster, a)
        return len(found) == 3 and all(map(is_ready, found.values()))

    cluster.until("the pods are ready", a, served)
    names = {name for name, one in pods(cluster, a).items() if one["spec"]["nodeName"] == "node-w"}
    assert len(names) == 2, "the control-plane node is tainted"
    address = cluster.kubectl(a, "get", "service", "server", "-o", "jsonpath={.spec.clusterIP}").stdout
    heard: set[str] = set()

    def all_answered() -> bool:
        done = cluster.kubectl(a, "exec", "client", "--", "pod-program", "get", f"http://{address}/")
        heard.update(done.stdout.split())
        return heard == names

    cluster.until("each pod has answered through the Service", a, all_answered)
    for name in names:
        logs = cluster.kubectl(a, "logs", name)
        assert logs.stdout == f"serving as {name}\n", logs.stderr
