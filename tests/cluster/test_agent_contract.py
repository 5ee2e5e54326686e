"""The agent's suites against a real API server: what the fake one of the fast tests claims is held to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.agent.http.kubeconfig import KubeConfig, Pem
from tests.agent.api.suite_mirrors import MirrorSuite
from tests.agent.api.suite_node import NodeSuite
from tests.agent.api.suite_pods import PodSuite
from tests.agent.api.suite_references import ReferenceSuite
from tests.agent.api.world import Server
from tests.lab.api_server import URL, ApiServer
from tests.lab.netns import Network

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    base = tmp_path_factory.mktemp("api")
    with Network() as network, ApiServer(base, network.node("10.77.0.11/24", gateway="10.77.0.1")) as server:
        yield server


@pytest.fixture
def server(real: ApiServer) -> Iterator[Server]:
    def config(folder: Path) -> KubeConfig:
        pair = Pem(folder / "tls.crt"), Pem(folder / "tls.key")
        return KubeConfig(URL, Pem(real.base / "ca.crt"), *pair)

    def node(name: str) -> KubeConfig:
        real.with_certificate(name, f"system:node:{name}", "system:nodes")
        return config(real.base / name)

    with real.inside():
        yield Server(config(real.base / "admin"), node)


class TestNode(NodeSuite):
    """The node."""


class TestPods(PodSuite):
    """Pods."""


class TestMirrors(MirrorSuite):
    """Static pods."""


class TestReferences(ReferenceSuite):
    """What pods refer to."""
