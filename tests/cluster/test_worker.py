"""A bare machine with a bootstrap token becomes a worker by protokube alone, of a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.core.controlplane.names import PROXY
from tests.cluster.test_join import TOKEN, apply_all, decide_all, make_token
from tests.lab.api_server import ApiServer
from tests.lab.kube_node import KubeNode
from tests.lab.kubernetes import VERSION
from tests.lab.netns import Network
from tests.lab.trial import write_inventory
from tests.lab.unit_node import UNIT

pytestmark = [pytest.mark.root, pytest.mark.kubelet]

CLUSTER_DIR = "/var/lib/cluster"
SERVING_CERTIFICATE = "/var/lib/kubelet/pki/kubelet-server-current.pem"


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def server(tmp_path: Path, network: Network) -> Iterator[ApiServer]:
    with ApiServer(tmp_path / "api", network.node("10.77.0.11/24", gateway="10.77.0.1")) as server:
        server.start_controller_manager()
        with server.inside():
            apply_all(server.admin())
            make_token(server.admin(), TOKEN, 3600)
        yield server


@pytest.fixture
def worker(tmp_path: Path, network: Network, server: ApiServer) -> Iterator[KubeNode]:
    inventory = tmp_path / "cluster"
    write_inventory(inventory, nodes={"node-b": "10.77.0.12"})
    config = {
        "cloud": "local",
        "inventory": f"{CLUSTER_DIR}/inventory.yaml",
        "master": False,
        "api": "https://10.77.0.11:6443",
        "kubernetesVersion": VERSION,
        "interval": 5,
        # The machine that the tests run on may not change these limits.
        "kubeProxy": {"conntrack": {"maxPerCore": 0, "min": 0}},
    }
    files = {
        "/etc/protokube/ca.crt": (server.base / "ca.crt").read_text(),
        "/etc/protokube/token": TOKEN,
    }
    space = network.node("10.77.0.12/24", gateway="10.77.0.1")
    binds = [f"{inventory}:{CLUSTER_DIR}"]
    with KubeNode(tmp_path / "node", "node-b", space, config, files=files, binds=binds) as node:
        yield node


def test_a_bare_machine_with_a_token_becomes_a_ready_node(server: ApiServer, worker: KubeNode) -> None:
    worker.run("systemctl", "start", UNIT)

    def ready() -> bool:
        api = server.admin()
        decide_all(server)
        node = api.get("/api/v1/nodes/node-b") or {}
        conditions = (node.get("status") or {}).get("conditions") or ()
        serves = worker.run("test", "-e", SERVING_CERTIFICATE, check=False).returncode == 0
        return serves and any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    try:
        server.until("the node is ready, and has a certificate to serve with", ready)
    except AssertionError as still:
        raise AssertionError(f"{still}\n{worker.journal(UNIT)}\n{worker.journal('kubelet')[-4000:]}") from None
    worker.until("kube-proxy runs", lambda: PROXY in worker.running())
    asked = ("curl", "-sf", "http://127.0.0.1:10256/healthz")
    worker.until("kube-proxy has read Services", lambda: worker.run(*asked, check=False).returncode == 0)
    worker.until("the API's address is translated", lambda: "10.96.0.1" in worker.run("iptables-save").stdout)
    kubeconfig = worker.path("/var/lib/kubelet/kubeconfig").read_text()
    assert TOKEN not in kubeconfig and "kubelet-client-current.pem" in kubeconfig
    assert TOKEN not in worker.path("/var/lib/kubelet/bootstrap-kubeconfig").read_text()
    worker.until("it has converged", lambda: worker.said("converged"))
