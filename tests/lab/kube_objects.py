"""Objects of the tests' own in a real cluster, made and read by kubectl."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.kube_cluster import KubeCluster
from tests.lab.kube_node import KubeNode
from tests.lab.kubernetes import POD_IMAGE

SYSTEM = ("-n", "kube-system")


def pods(cluster: KubeCluster, node: KubeNode, *selector: str) -> dict[str, dict[str, Any]]:
    """The pods by name, as the API server of a node shows them; none while it doesn't answer."""
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


def all_answer(cluster: KubeCluster, node: KubeNode, pod: str, wanted: set[str]) -> None:
    """Wait until every pod of the Deployment has answered a pod's calls through the Service."""
    address = cluster.kubectl(node, "get", "service", "server", "-o", "jsonpath={.spec.clusterIP}").stdout
    heard: set[str] = set()

    def answered() -> bool:
        done = cluster.kubectl(node, "exec", pod, "--", "pod-program", "get", f"http://{address}/")
        heard.update(done.stdout.split())
        return heard >= wanted

    cluster.until(f"all pods have answered {pod} through the Service", node, answered)
