"""Reports outlive the agent that wrote them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from protokube.agent.core.pods import uid_of
from protokube.agent.loop import Agent
from protokube.agent.providers.memory import MemoryProvider
from protokube.agent.reporters.file import FileReporter
from tests.agent.harness import Spoken, until
from tests.agent.pods import wanted


def test_what_an_earlier_agent_reported_and_is_gone_is_reported_to_be_gone(tmp_path: Path) -> None:
    """It was killed between a pod's end and the report of it."""
    earlier = {**wanted("earlier", owner="file:e"), "status": {"phase": "Running"}}

    async def test() -> None:
        await FileReporter(tmp_path).pod(earlier)
        (tmp_path / "torn.json").write_text("{")
        (tmp_path / f".{uid_of(earlier)}.json.new").touch()
        pod = wanted()
        agent = Agent(MemoryProvider(), [Spoken(pods=[pod])], FileReporter(tmp_path))
        task = asyncio.create_task(agent.run())
        try:
            kept = {f"{uid_of(pod)}.json"}
            await until("its report is gone", lambda: {one.name for one in tmp_path.iterdir()} == kept)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(test())
