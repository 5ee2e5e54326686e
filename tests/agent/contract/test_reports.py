"""Reports outlive the agent that wrote them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from protokube.agent.core.model import Pod
from protokube.agent.core.pods import uid_of
from protokube.agent.loop import Agent
from protokube.agent.providers.memory import MemoryProvider
from protokube.agent.reporters.file import FileReporter
from protokube.agent.reporting import Reports
from tests.agent.harness import Kept, Spoken, until
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


class Slow(Kept):
    """A reporter whose reports take as long as the test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def pod(self, pod: Pod) -> None:
        await self.gate.wait()
        await super().pod(pod)

    async def reported(self) -> Sequence[Pod]:
        return list(self.pods.values())


def test_what_is_said_while_a_report_is_under_way_is_reported_after_it() -> None:
    """Running, then Pending under way, then Running again; and a pod that is gone before its first report is over."""

    async def test() -> None:
        kept = Slow()
        running = {**wanted(), "status": {"phase": "Running"}}
        short = {**wanted("short", owner="file:short"), "status": {"phase": "Running"}}
        kept.pods[uid_of(running)] = running
        reports = Reports(kept, lambda: 0.0)
        await reports.recall()
        task = asyncio.create_task(reports.run())
        reports.pod({**running, "status": {"phase": "Pending"}})
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reports.pod(running)
        kept.gate.set()
        told = [(uid_of(running), phase) for phase in ("Pending", "Running")]
        await until("both are told", lambda: kept.told == told)
        kept.gate.clear()
        reports.pod(short)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reports.gone(uid_of(short))
        kept.gate.set()
        await until("it is gone", lambda: kept.told[-1] == (uid_of(short), "gone"))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(test())
