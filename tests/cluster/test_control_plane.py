"""protokube alone makes a bare machine a control plane: real etcd, API server, controllers, scheduler and proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.core.controlplane.names import API_SERVER, COMPONENTS
from protokube.core.controlplane.paths import good_path, pod_path
from tests.lab.kube_node import KubeNode
from tests.lab.kubernetes import VERSION
from tests.lab.netns import Network
from tests.lab.trial import FOR_ETCD, both, write_inventory
from tests.lab.unit_node import UNIT

pytestmark = [pytest.mark.root, pytest.mark.kubelet]

DISKS = "/var/lib/disks"
API = "https://127.0.0.1:6443"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[KubeNode]:
    disks = tmp_path / "disks"
    write_inventory(disks, *both("a", "a", FOR_ETCD), nodes={"node-a": "10.77.0.11"})
    (disks / "volumes").mkdir()
    config = {
        "cloud": "local",
        "inventory": f"{DISKS}/inventory.yaml",
        "controlPlane": True,
        "kubernetesVersion": VERSION,
        "trustClock": True,
        "etcdTls": "on",
        "interval": 5,
        # The machine that the tests run on may not change these limits.
        "kubeProxy": {"conntrack": {"maxPerCore": 0, "min": 0}},
    }
    with Network() as network:
        space = network.node("10.77.0.11/24", gateway="10.77.0.1")
        with KubeNode(tmp_path / "node", "node-a", space, config, binds=[f"{disks}:{DISKS}"]) as node:
            yield node


def answers(node: KubeNode, url: str) -> bool:
    return node.run("curl", "-ksf", url, check=False).returncode == 0


def listening(node: KubeNode) -> set[str]:
    """The ports on which programs listen for others than this machine."""
    addresses = [line.split()[3] for line in node.run("ss", "-Hltn").stdout.splitlines()]
    return {one.rpartition(":")[2] for one in addresses if not one.startswith(("127.", "[::1]"))}


def test_a_bare_machine_becomes_a_control_plane(node: KubeNode) -> None:
    node.run("systemctl", "start", UNIT)
    node.until("the API server is ready", lambda: answers(node, f"{API}/readyz"))
    node.until("all components run in pods", lambda: node.running() >= set(COMPONENTS))
    others = ("https://127.0.0.1:10257", "https://127.0.0.1:10259", "http://127.0.0.1:10256")
    node.until("the others are healthy", lambda: all(answers(node, f"{url}/healthz") for url in others))
    node.until("what is good is known", lambda: all(node.path(good_path(one)).exists() for one in COMPONENTS))
    node.converged()
    assert not listening(node) & {"8080", "10251", "10252"}, "no port is open without authentication"
    assert node.path(good_path(API_SERVER)).read_text() == node.path(pod_path(API_SERVER)).read_text()
    anonymous = node.run("curl", "-ks", f"{API}/api/v1/secrets").stdout
    assert '"code": 403' in anonymous
