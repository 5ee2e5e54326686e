"""An agent over a memory provider beside an API server, for one suite: the fake one, and the real one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from protokube.agent.apiside import ApiSide, Pace
from protokube.agent.core.model import Json, Pod
from protokube.agent.http.kube import KubeClient, object_path
from protokube.agent.http.kubeconfig import KubeConfig
from protokube.agent.loop import Agent
from protokube.agent.options import read_options
from protokube.agent.ports import Source
from protokube.agent.providers.memory import MemoryProvider
from tests.agent.api.proxy import Proxy
from tests.agent.harness import Kept

LIMIT = 120.0
"""Seconds that only a hang exceeds."""
NODES = "/api/v1/nodes"
PODS = "/api/v1/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class Server(Struct, frozen=True):
    """An API server: an administrator's configuration, and one of a node of that name."""

    admin: KubeConfig
    node: Callable[[str], KubeConfig]


class World:
    """One agent, whose node has a name of its own, beside one API server; a proxy between them can be cut."""

    def __init__(self, server: Server, base: Path) -> None:
        self.server = server
        self.base = base
        self.name = f"vk-{secrets.token_hex(4)}"
        self.namespace = f"ns-{secrets.token_hex(4)}"
        self.admin = KubeClient(server.admin)
        self.provider = MemoryProvider()
        self.kept = Kept()
        self.options: list[str] = []
        self.sources: list[Source] = []

    async def __aenter__(self) -> World:
        self.proxy = await Proxy(self.server.admin.server).start()
        await self.admin.create("/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        path = object_path("serviceaccounts", self.namespace)  # without a controller manager nobody else makes it
        await self.admin.create(path, {"metadata": {"name": "default"}})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.proxy.close()
        await self.admin.close()

    @asynccontextmanager
    async def agent(self, config: KubeConfig | None = None) -> AsyncIterator[ApiSide]:
        """An agent that runs meanwhile."""
        given = ["--provider", "memory", "--nodename", self.name, "--state-dir", str(self.base), *self.options]
        options = read_options(given, {"KUBELET_PORT": "0"})
        client = KubeClient(self.proxy.through(config or self.server.admin))
        side = ApiSide(client, self.provider, options, "10.1.2.3", Pace(lease=0.2, status=1.0, retry=0.05))
        agent = Agent(
            self.provider,
            [*self.sources, side.source],
            [self.kept, side.reporter],
            first_pause=0.05,
            happened=side.events.happened,
            fill=side.fill,
        )
        side.follow(agent.facts)
        tasks = [asyncio.create_task(agent.run()), asyncio.create_task(side.run())]
        try:
            yield side
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await client.close()
            for result in results:
                if not isinstance(result, asyncio.CancelledError):
                    raise AssertionError("the agent ended") from result

    # --- at the API server ---------------------------------------------------------------------------

    async def node(self) -> Json | None:
        return await self.admin.get(f"{NODES}/{self.name}")

    async def node_is(self, status: str) -> Json | None:
        """The node when its condition Ready has this status."""
        node = await self.node()
        found = (node or {}).get("status", {}).get("conditions") or ()
        return node if any(one["type"] == "Ready" and one["status"] == status for one in found) else None

    async def create(self, name: str = "web", **spec: Any) -> Pod:
        """Make a pod that is bound to the node."""
        container = {"name": "c", "image": "host", "command": ["sleep", "1000"]}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **spec.pop("metadata", {})},
            "spec": {
                "nodeName": self.name,
                "containers": [container],
                "automountServiceAccountToken": False,
                **spec,
            },
        }
        return await self.admin.create(object_path("pods", self.namespace), body)

    async def pod(self, name: str = "web", namespace: str | None = None) -> Pod | None:
        return await self.admin.get(object_path("pods", namespace or self.namespace, name))

    async def phase(self, name: str = "web") -> str:
        pod = await self.pod(name)
        return "gone" if pod is None else str(pod["status"].get("phase"))

    async def delete(self, name: str = "web", **options: Any) -> None:
        """Ask for a pod's end, as kubectl does."""
        await self.admin._request("DELETE", object_path("pods", self.namespace, name), options)

    async def events(self) -> list[Json]:
        listed = await self.admin.get(object_path("events", self.namespace))
        return [] if listed is None else list(listed["items"])


async def until(what: str, holds: Callable[[], Any]) -> Any:
    """The first true answer of a coroutine function, or of a plain one."""
    try:
        async with asyncio.timeout(LIMIT):
            while True:
                answer = holds()
                if asyncio.iscoroutine(answer):
                    answer = await answer
                if answer:
                    return answer
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"still not: {what}") from None
