"""Our server over a memory provider, asked with bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from protokube.agent.core.model import Json
from protokube.agent.http.webserver import WebServer
from protokube.agent.machine import Machine
from protokube.agent.ports import NodeFacts
from protokube.agent.providers.memory import MemoryProvider
from protokube.errors import ProviderError
from tests.agent.web.raw import said

Ask = Callable[[bytes], Awaitable[tuple[str, bytes]]]


@asynccontextmanager
async def served(
    provider: MemoryProvider, node: NodeFacts | None = None, token: str | None = None
) -> AsyncIterator[Ask]:
    runner = web.AppRunner(WebServer(provider, node or Machine(), token, held=0.01).application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        yield lambda request: said(port, request)
    finally:
        await runner.cleanup()


def answers(
    *requests: bytes, provider: MemoryProvider | None = None, token: str | None = None
) -> list[tuple[str, bytes]]:
    async def test() -> list[tuple[str, bytes]]:
        async with served(provider or MemoryProvider(), token=token) as ask:
            return [await ask(one) for one in requests]

    return asyncio.run(test())


class Moody:
    """A node whose provider fails now and then."""

    def __init__(self) -> None:
        self.down = True

    async def capacity(self) -> dict[str, str]:
        return {"cpu": self._say("4")}

    async def node_conditions(self) -> Sequence[Json]:
        return [{"type": "Ready", "status": self._say("True")}]

    async def node_addresses(self) -> Sequence[Json]:
        return [{"type": "InternalIP", "address": self._say("10.1.2.3")}]

    def operating_system(self) -> str:
        return "windows"

    def _say(self, value: str) -> str:
        if self.down:
            raise ProviderError("no answer")
        return value
