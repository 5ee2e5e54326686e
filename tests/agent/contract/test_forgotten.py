"""A source that isn't configured any more: its pods stay until it is told to be forgotten."""

from __future__ import annotations

import asyncio

from protokube.agent.loop import Agent
from protokube.agent.providers.memory import MemoryProvider
from protokube.agent.sources.forgotten import Forgotten
from tests.agent.harness import Kept, Spoken, running, settled, until
from tests.agent.pods import wanted


def test_its_pods_are_removed_and_no_others() -> None:
    async def test() -> None:
        provider = MemoryProvider()
        file, http = wanted("a", owner="file:a"), wanted("b", owner="http")
        for pod in (file, http):
            await provider.create_pod(pod)
        async with running(provider, Spoken(pods=[file])) as agent:
            await settled(agent)
            assert len(provider.pods) == 2
        task = asyncio.create_task(Agent(provider, [Spoken(pods=[file]), Forgotten("http")], Kept()).run())
        await until(
            "the other is gone", lambda: [one["metadata"]["name"] for one in provider.pods.values()] == ["a-n1"]
        )
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(test())
