"""Flags of a real API server: one that changes, one that is refused, and one with which it doesn't come up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protokube.core.controlplane.component import PATIENCE
from protokube.core.controlplane.names import API_SERVER
from protokube.core.controlplane.paths import condemned_path, good_path, pod_path
from tests.lab.kube_cluster import LIMIT, KubeCluster
from tests.lab.kube_node import KubeNode
from tests.lab.unit_node import UNIT

pytestmark = [pytest.mark.root, pytest.mark.kubelet]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KubeCluster]:
    with KubeCluster(tmp_path, "a") as cluster:
        yield cluster


def configure(node: KubeNode, **flags: Any) -> None:
    """Give the API server other settings, as an operator does."""
    node.configure(kubeAPIServer=flags)
    node.run("systemctl", "reload", UNIT)


def servers(node: KubeNode) -> set[str]:
    """The containers in which an API server runs."""
    return {one for one, program in node.containers().items() if program == API_SERVER}


def command_line(node: KubeNode) -> str:
    """The arguments of the API server that runs; empty while none does."""
    return node.run("pgrep", "-fa", f"^{API_SERVER} ", check=False).stdout


def test_flags_change_are_refused_and_are_rolled_back(cluster: KubeCluster) -> None:
    a = cluster.control_plane("a")
    a.run("systemctl", "start", UNIT)
    cluster.until("the node is ready", a, lambda: cluster.ready(a) == {"node-a"})
    cluster.until("it is converged", a, lambda: a.show("StatusText") == "converged")
    first = servers(a)
    assert len(first) == 1

    configure(a, maxRequestsInflight=401)
    cluster.until("the flag has changed", a, lambda: "--max-requests-inflight=401" in command_line(a))
    cluster.until("it serves", a, lambda: cluster.ready(a))
    cluster.until("it is the one to go back to", a, lambda: "=401" in a.path(good_path(API_SERVER)).read_text())
    second = servers(a)
    assert len(second) == 1 and second != first

    configure(a, maxRequestsInFlight=402)
    cluster.until("it is refused", a, lambda: a.said("control-plane/configuration"))
    assert a.said("maxRequestsInflight"), "the nearest name is told"
    assert servers(a) == second and "=401" in a.path(pod_path(API_SERVER)).read_text()

    configure(a, maxRequestsInflight=403, authenticationTokenWebhookConfigFile="/etc/kubernetes/missing")
    cluster.until("it goes down", a, lambda: not cluster.ready(a))
    limit = PATIENCE + LIMIT
    cluster.until("it is rolled back", a, lambda: a.said("control-plane/rolled-back"), limit)
    cluster.until("the last good one serves", a, lambda: cluster.ready(a) == {"node-a"})
    assert "=401" in command_line(a) and "=403" in a.path(condemned_path(API_SERVER)).read_text()

    configure(a, maxRequestsInflight=404)
    cluster.until("the next configuration is tried", a, lambda: "=404" in command_line(a))
    cluster.until("it serves", a, lambda: cluster.ready(a))
    cluster.until("it is converged", a, lambda: a.show("StatusText") == "converged")
