"""The demo's second part: a machine with blank disks becomes a Kubernetes cluster of one node.

python examples/demo_cluster.py SCRATCH

`examples/demo` runs it in namespaces of its own where KUBERNETES names a directory that `make build/kubernetes/made`
has filled. The machine is the one that the cluster's tests use: a real systemd, containerd and kubelet.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo_node import BOLD, DIM, PLAIN, RED, done, title

from tests.lab.kube_cluster import KubeCluster
from tests.lab.kube_node import KubeNode
from tests.lab.kube_objects import apply, client, pods
from tests.lab.unit_node import UNIT

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")


class Stages:
    """The stages on the way, with the seconds from the daemon's start."""

    def __init__(self, cluster: KubeCluster, node: KubeNode) -> None:
        self._cluster, self._node = cluster, node
        self._begun = time.monotonic()

    def until(self, what: str, holds: Callable[[], Any]) -> None:
        """Wait for a stage, and say when it came."""
        self._cluster.until(what, self._node, holds)
        done(what, time.monotonic() - self._begun)

    def answers(self, what: str, url: str) -> None:
        """Wait for an answer with status 200."""
        self.until(what, lambda: self._node.run("curl", "-ksf", url, check=False).returncode == 0)


def megabytes(node: KubeNode, pid: str) -> float:
    """Resident memory of a process of the node, in MB."""
    status = node.path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1000


def memory(node: KubeNode) -> dict[str, float]:
    """Megabytes of the daemon and, by their names, of all that it has brought up."""
    found = {"protokube": megabytes(node, node.show("MainPID"))}
    for name in PROGRAMS:
        pids = node.run("pgrep", "-f", f"(^|/){name}( |$)", check=False).stdout.split()
        found[name] = sum(megabytes(node, pid) for pid in pids)
    return found


def bring_up(cluster: KubeCluster) -> KubeNode:
    """Switch a machine on, start protokube, and follow it to a pod that runs."""
    node = cluster.control_plane("a")
    stages = Stages(cluster, node)
    node.run("systemctl", "start", "--no-block", UNIT)
    stages.until("both volumes formatted and mounted", lambda: len(node.mounts()) == 2)
    stages.until("both etcds' manifests linked", lambda: {"etcd.manifest", "etcd-events.manifest"} <= node.links())
    stages.until("kubelet started", lambda: node.show("ActiveState", "kubelet.service") == "active")
    stages.answers("etcd healthy", "http://127.0.0.1:4101/health")
    stages.answers("the API server ready", "https://127.0.0.1:6443/readyz")
    stages.until("the node Ready", lambda: cluster.ready(node) == {"node-a"})
    stages.until("a pod's account", lambda: not cluster.kubectl(node, "get", "serviceaccount", "default").returncode)
    apply(cluster, node, client("first", "node-a"))
    phase = "{.status.phase}"
    stages.until(
        "a pod running",
        lambda: cluster.kubectl(node, "get", "pod", "first", "-o", f"jsonpath={phase}").stdout == "Running",
    )
    stages.until("the node converged", lambda: node.show("StatusText") == "converged")
    return node


def main(scratch: Path) -> int:
    """All of the cluster's life."""
    title("The cluster: protokube --control-plane, with a real containerd and kubelet")
    try:
        with KubeCluster(scratch, "a") as cluster:
            node = bring_up(cluster)
            print(f"\n{BOLD}kubectl get nodes{PLAIN}")
            for line in cluster.kubectl(node, "get", "nodes").stdout.splitlines():
                print(f"  {line}")
            title("The memory that it takes")
            for name, taken in memory(node).items():
                print(f"  {taken:>6.0f} MB  {name}")
            print(f"  {DIM}{len(pods(cluster, node, '-A'))} pods run{PLAIN}", flush=True)
        return 0
    except (AssertionError, OSError) as problem:
        print(f"\n{RED}✗ {problem}{PLAIN}", flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
