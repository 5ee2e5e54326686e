"""A real kubelet runs etcd's static pods through containerd, as protokube renders them, without an API server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protokube.core.pki.model import PKI_DIR as PKI
from tests.lab.kube_node import KubeNode
from tests.lab.netns import Network
from tests.lab.trial import FOR_ETCD, both, write_inventory
from tests.lab.unit_node import UNIT

pytestmark = [pytest.mark.root, pytest.mark.kubelet]

DISKS = "/var/lib/disks"
ADDRESS = "10.77.0.11"


@contextmanager
def machine(base: Path, **config: object) -> Iterator[KubeNode]:
    disks = base / "disks"
    write_inventory(disks, *both("a", "a", FOR_ETCD), nodes={"node-a": ADDRESS})
    (disks / "volumes").mkdir()
    (disks / "store").mkdir(0o700)
    local = {"cloud": "local", "inventory": f"{DISKS}/inventory.yaml"}
    with Network() as network:
        space = network.node(f"{ADDRESS}/24", gateway="10.77.0.1")
        with KubeNode(base / "node", "node-a", space, local | config, binds=[f"{disks}:{DISKS}"]) as node:
            yield node


def healthy(node: KubeNode, port: int) -> bool:
    """Whether a member serves reads with quorum."""
    asked = ["env", "ETCDCTL_API=3", "etcdctl", f"--endpoints=http://127.0.0.1:{port}", "get", "health"]
    return node.run(*asked, check=False).returncode == 0


def test_a_bare_machine_runs_etcd_in_kubelets_pods(tmp_path: Path) -> None:
    with machine(tmp_path) as node:
        node.run("systemctl", "start", UNIT)
        node.converged()
        node.until("etcd runs in a pod", lambda: node.running() >= {"etcd", "pause"})
        node.until("both members serve", lambda: healthy(node, 4001) and healthy(node, 4002))
        assert node.show("ActiveState", "kubelet.service") == "active"
        assert node.show("NRestarts", "kubelet.service") == "0", node.journal("kubelet")


def asked(node: KubeNode) -> str:
    """What a client with a certificate gets at the node's address; nothing when it isn't served."""
    secrets = ["--cacert", f"{PKI}/etcd-client/ca.crt", "--cert", f"{PKI}/etcd-client/tls.crt"]
    secrets += ["--key", f"{PKI}/etcd-client/tls.key"]
    answer: str = node.run("curl", "-s", *secrets, f"https://{ADDRESS}:4001/health", check=False).stdout
    return answer


def test_a_pod_sees_its_own_two_certificates_alone_and_what_is_exchanged_for_them(tmp_path: Path) -> None:
    shared = {"store": f"file://{DISKS}/store", "trustClock": True, "etcdClientsListen": "node"}
    with machine(tmp_path, **shared) as node:
        node.run("systemctl", "start", UNIT)
        node.converged()
        node.until("clients are served at the node's address", lambda: "true" in asked(node))
        pids = node.run("pgrep", "-x", "etcd").stdout.split()
        seen = [node.run("ls", f"/proc/{pid}/root{PKI}").stdout.split() for pid in pids]
        own = [[f"etcd-{which}-{cluster}.d" for which in ("peer", "server")] for cluster in ("events", "main")]
        assert sorted(seen) == own
        before = shown(node)
        assert before == file_serial(node) != ""
        node.run("protokube", "pki", "rotate", "etcd-server-main", "--yes")
        node.until("a new certificate is shown", lambda: shown(node) == file_serial(node))
        assert "true" in asked(node) and shown(node) != before
        assert node.run("pgrep", "-x", "etcd").stdout.split() == pids, "nobody restarted"


def shown(node: KubeNode) -> str:
    """The serial number of the certificate that etcd shows."""
    client = f"-cert {PKI}/etcd-client/tls.crt -key {PKI}/etcd-client/tls.key"
    script = f"openssl s_client -connect {ADDRESS}:4001 {client} </dev/null 2>/dev/null | openssl x509 -noout -serial"
    serial: str = node.run("sh", "-c", script, check=False).stdout
    return serial


def file_serial(node: KubeNode) -> str:
    """The serial number of the certificate that stands in the node's directory."""
    serial: str = node.run("openssl", "x509", "-noout", "-serial", "-in", f"{PKI}/etcd-server-main/tls.crt").stdout
    return serial
