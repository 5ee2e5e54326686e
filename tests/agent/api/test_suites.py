"""The agent's suites against the fake API server; tests/cluster/test_agent_contract.py has the real one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from protokube.agent.http.kubeconfig import KubeConfig
from tests.agent.api.suite_mirrors import MirrorSuite
from tests.agent.api.suite_node import NodeSuite
from tests.agent.api.suite_pods import PodSuite
from tests.agent.api.suite_references import ReferenceSuite
from tests.agent.api.world import Server
from tests.lab.kube_fake import KubeFake, serving


@pytest.fixture
def server() -> Iterator[Server]:
    """The fake in a thread of its own, as the real one is a process of its own."""
    url: list[str] = []
    ready, end = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with serving(KubeFake()) as where:
            url.append(where)
            ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(60)
        yield Server(KubeConfig(url[0], token="admin"), lambda name: KubeConfig(url[0], token=f"node:{name}"))
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(60)
        loop.close()


class TestNode(NodeSuite):
    """The node."""


class TestPods(PodSuite):
    """Pods."""


class TestMirrors(MirrorSuite):
    """Static pods."""


class TestReferences(ReferenceSuite):
    """What pods refer to."""
