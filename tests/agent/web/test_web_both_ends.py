"""The loop over the Web provider: before our own server, and before a provider in another language."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from protokube.agent.core.pods import uid_of
from protokube.agent.http.webconfig import WebConfig
from protokube.agent.http.webserver import WebServer
from protokube.agent.machine import Machine
from protokube.agent.ports import LogOptions, NotFoundError
from protokube.agent.providers.memory import MemoryProvider
from protokube.agent.providers.web import WebProvider
from tests.agent.harness import Kept, Spoken, running, until
from tests.agent.pods import wanted

EXAMPLE = Path(__file__).parents[3] / "examples/web-provider.pl"


class Served:
    """A memory provider behind our server, on a port that stays the same when it is stopped and started."""

    def __init__(self) -> None:
        self.memory = MemoryProvider()
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        self._runner = web.AppRunner(WebServer(self.memory, Machine(), held=0.01).application())
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()


@asynccontextmanager
async def both_ends() -> AsyncIterator[tuple[WebProvider, Served]]:
    served = Served()
    await served.start()
    provider = WebProvider(WebConfig(f"http://127.0.0.1:{served.port}"), lambda _seconds: asyncio.sleep(0.01))
    try:
        yield provider, served
    finally:
        await provider.close()
        await served.stop()


def test_a_pod_lives_and_ends_behind_http() -> None:
    async def test() -> None:
        async with both_ends() as (provider, served):
            source, reporter, pod = Spoken(), Kept(), wanted()
            async with running(provider, source, reporter=reporter):
                source.say([pod])
                await until("it is reported to run", lambda: (uid_of(pod), "Running") in reporter.told)
                changed = wanted(uid=uid_of(pod), containers=[{"name": "c", "image": "host", "command": ["true"]}])
                source.say([changed])
                await until("it was updated", lambda: served.memory.calls["update_pod"])
                source.say([])
                await until("it is reported to be gone", lambda: (uid_of(pod), "gone") in reporter.told)
            assert served.memory.calls["create_pod"] == 1

    asyncio.run(test())


def test_pods_stay_while_the_server_is_away() -> None:
    async def test() -> None:
        async with both_ends() as (provider, served):
            pod, other = wanted(), wanted("other", owner="file:other.yaml")
            source, reporter = Spoken(pods=[pod]), Kept()
            async with running(provider, source, reporter=reporter) as agent:
                await until("it is reported to run", lambda: (uid_of(pod), "Running") in reporter.told)
                await served.stop()
                await until("it is noticed", lambda: not agent.facts.readable)
                source.say([pod, other])
                await served.start()
                await until("the new one runs", lambda: (uid_of(other), "Running") in reporter.told)
            assert (served.memory.calls["create_pod"], served.memory.calls["delete_pod"]) == (2, 0)
            assert (uid_of(pod), "gone") not in reporter.told

    asyncio.run(test())


def test_both_ends_agree_on_what_is_gone() -> None:
    """W9 and W11."""

    async def test() -> None:
        async with both_ends() as (provider, _):
            assert await provider.get_pod("default", "web") is None
            with pytest.raises(NotFoundError):
                await provider.delete_pod(wanted())

    asyncio.run(test())


def test_a_provider_of_thirty_lines_of_perl_serves_pods() -> None:
    async def test() -> None:
        perl = await asyncio.create_subprocess_exec(
            "perl", str(EXAMPLE), "127.0.0.1:0", stdout=asyncio.subprocess.PIPE
        )
        assert perl.stdout is not None
        port = int((await perl.stdout.readline()).split()[-1])
        provider = WebProvider(WebConfig(f"http://127.0.0.1:{port}"), lambda _seconds: asyncio.sleep(0.01))
        try:
            source, reporter, pod = Spoken(), Kept(), wanted("from-perl")
            async with running(provider, source, reporter=reporter):
                source.say([pod])
                await until("it is reported to run", lambda: (uid_of(pod), "Running") in reporter.told)
                assert await provider.capacity() == {"cpu": "4", "memory": "4Gi", "pods": "20"}
                name = pod["metadata"]["name"]
                pieces = provider.container_logs("default", name, "c", LogOptions(tail=1))
                assert b"".join([piece async for piece in pieces]) == b"hello from Perl\n"
                assert await provider.get_pod_status("default", name) == {"phase": "Running"}
                source.say([])
                await until("it is reported to be gone", lambda: (uid_of(pod), "gone") in reporter.told)
            assert await provider.get_pods() == []
        finally:
            await provider.close()
            perl.kill()
            await perl.wait()

    asyncio.run(test())


def test_the_example_has_thirty_lines() -> None:
    code = [line for line in EXAMPLE.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert len(code) <= 30
