"""A real kubelet runs etcd's static pods through containerd, as protokube renders them, without an API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.kube_node import KubeNode
from tests.lab.netns import Network
from tests.lab.trial import FOR_ETCD, both, write_inventory
from tests.lab.unit_node import UNIT

pytestmark = pytest.mark.root

DISKS = "/var/lib/disks"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[KubeNode]:
    disks = tmp_path / "disks"
    write_inventory(disks, *both("a", "a", FOR_ETCD), nodes={"node-a": "10.77.0.11"})
    (disks / "volumes").mkdir()
    config = {"cloud": "local", "inventory": f"{DISKS}/inventory.yaml"}
    with Network() as network:
        space = network.node("10.77.0.11/24", gateway="10.77.0.1")
        with KubeNode(tmp_path / "node", "node-a", space, config, binds=[f"{disks}:{DISKS}"]) as node:
            yield node


def healthy(node: KubeNode, port: int) -> bool:
    """Whether a member serves reads with quorum."""
    asked = ["env", "ETCDCTL_API=3", "etcdctl", f"--endpoints=http://127.0.0.1:{port}", "get", "health"]
    return node.run(*asked, check=False).returncode == 0


def test_a_bare_machine_runs_etcd_in_kubelets_pods(node: KubeNode) -> None:
    node.run("systemctl", "start", UNIT)
    node.converged()
    node.until("etcd runs in a pod", lambda: node.running() >= {"etcd", "pause"})
    node.until("both members serve", lambda: healthy(node, 4001) and healthy(node, 4002))
    assert node.show("ActiveState", "kubelet.service") == "active"
    assert node.show("NRestarts", "kubelet.service") == "0", node.journal("kubelet")
