"""An agent in a test's own loop: sources that say what the test says, a reporter that keeps what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from protokube.agent.core.model import Pod
from protokube.agent.core.pods import uid_of
from protokube.agent.loop import Agent
from protokube.agent.ports import Provider, Say, Source
from protokube.core.model import Fault, Unknown
from protokube.errors import ProviderError

LIMIT = 60.0
"""Seconds that only a hang exceeds."""


class Spoken:
    """A source that says what it is told to, as soon as it runs."""

    def __init__(self, name: str = "file", pods: Sequence[Pod] | Unknown | None = None) -> None:
        self.name = name
        self._said: Mapping[str, Pod] | Unknown | None = None
        self._held: Collection[str] = ()
        self._say: Say | None = None
        if pods is not None:
            self.say(pods)

    async def run(self, say: Say) -> None:
        self._say = say
        self._repeat()
        await asyncio.Event().wait()

    def say(self, pods: Sequence[Pod] | Unknown, held: Collection[str] = ()) -> None:
        self._said = pods if isinstance(pods, Unknown) else {uid_of(pod): pod for pod in pods}
        self._held = held
        self._repeat()

    def _repeat(self) -> None:
        if self._say is not None and self._said is not None:
            self._say(self._said, self._held, [] if not self._held else [Fault("x", "it can't be read")])


class Kept:
    """A reporter that keeps the last status of each pod; `down` makes every report fail."""

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        self.told: list[tuple[str, str]] = []
        self.down = False

    async def pod(self, pod: Pod) -> None:
        if self.down:
            raise ProviderError("nobody listens")
        self.pods[uid_of(pod)] = pod
        self.told.append((uid_of(pod), pod["status"]["phase"]))

    async def gone(self, pod: Pod) -> None:
        if self.down:
            raise ProviderError("nobody listens")
        self.pods.pop(uid_of(pod), None)
        self.told.append((uid_of(pod), "gone"))


@asynccontextmanager
async def running(
    provider: Provider, *sources: Source, reporter: Kept | None = None, **more: Any
) -> AsyncIterator[Agent]:
    """An agent that runs meanwhile; what it dies of is the test's failure."""
    agent = Agent(provider, sources, reporter or Kept(), **{"first_pause": 0.01, **more})
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(results[0], asyncio.CancelledError):
            raise AssertionError("the agent ended") from results[0]


async def until(what: str, holds: Callable[[], Any]) -> Any:
    """The first true answer; the limit only ends a test that has failed."""
    async with asyncio.timeout(LIMIT):
        while not (answer := holds()):
            await asyncio.sleep(0.002)
    return answer


async def settled(agent: Agent) -> None:
    """Wait until the agent has nothing in hand, and let everything that was called for run."""
    quiet = 0
    async with asyncio.timeout(LIMIT):
        while quiet < 20:
            await asyncio.sleep(0)
            quiet = quiet + 1 if agent.idle and agent.facts.readable else 0
