"""What a change costs, counted: pods judged and calls made."""

from __future__ import annotations

import asyncio
from collections import Counter

from protokube.agent.providers.memory import MemoryProvider
from tests.agent.harness import Spoken, running, settled, until
from tests.agent.pods import wanted

MANY = 500


def test_of_500_pods_a_changed_one_costs_one_pod_s_work_and_a_converged_agent_does_nothing() -> None:
    async def test() -> None:
        provider = MemoryProvider()
        pods = [wanted(f"p{number}", owner=f"file:{number}") for number in range(MANY)]
        source = Spoken(pods=pods)
        async with running(provider, source, resync=3600) as agent:
            await until("all run", lambda: len(provider.pods) == MANY)
            await settled(agent)
            planned, calls = agent.planned, Counter(provider.calls)
            source.say(list(pods))
            await settled(agent)
            assert agent.planned == planned and provider.calls == calls, "the same list is no change"
            pods[7] = wanted("p7", owner="file:7", terminationGracePeriodSeconds=1)
            source.say(pods)
            await until("the new one runs", lambda: provider.calls["create_pod"] == MANY + 1)
            await settled(agent)
            spent = provider.calls - calls
            assert spent.pop("get_pod") <= 3 and spent == Counter(create_pod=1, delete_pod=1)
            assert agent.planned - planned <= 10, "the old one and the new one, a few times each"

    asyncio.run(test())
