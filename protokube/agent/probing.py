"""Probes of one pod's containers, each on its own clock. Their results begin anew with each attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from protokube.agent.core.lifecycle import RUNNING, ContainerId, ContainerState, Verdict
from protokube.agent.core.model import Container, Handler, Probe
from protokube.agent.core.probes import Tallies, count, due, probes_of, verdict
from protokube.agent.ports import ExecResult, Runtime
from protokube.agent.prober import probe


class Probing:
    """Follows the running containers of a pod; `wake` is called when a verdict has changed."""

    def __init__(self, runtime: Runtime, host_ip: Callable[[], str], wake: Callable[[], None]) -> None:
        self._runtime = runtime
        self._host_ip = host_ip
        self._wake = wake
        self._tallies: dict[ContainerId, Tallies] = {}
        self._containers: dict[ContainerId, Container] = {}
        self._tasks: dict[ContainerId, list[asyncio.Task[None]]] = {}

    def follow(self, containers: Iterable[tuple[ContainerState, Container]]) -> None:
        """Probe these containers as far as they run, and no others."""
        running = {state.id: one for state, one in containers if state.state == RUNNING and probes_of(one)}
        for ref in self._tasks.keys() - running.keys():
            self._drop(ref)
        for ref, one in running.items():
            if ref not in self._tasks:
                self._tallies[ref], self._containers[ref] = Tallies(), one
                self._tasks[ref] = [
                    asyncio.create_task(self._repeat(ref, one, kind, what)) for kind, what in probes_of(one).items()
                ]

    def verdicts(self) -> dict[str, Verdict]:
        """What the probes say, by container name."""
        return {ref.container: verdict(self._containers[ref], tallies) for ref, tallies in self._tallies.items()}

    async def hook(self, handler: Handler, container: Container, ref: ContainerId, limit: float) -> tuple[bool, str]:
        """Execute a hook once: whether it succeeded, and what came of it."""
        return await self._make(handler, container, ref, limit)

    def close(self) -> None:
        """Probe nothing any more."""
        for ref in list(self._tasks):
            self._drop(ref)

    async def _repeat(self, ref: ContainerId, container: Container, kind: str, what: Probe) -> None:
        await asyncio.sleep(what.initial_delay_seconds)
        while True:
            if due(container, self._tallies[ref], kind):
                ok, said = await self._make(what, container, ref, float(what.timeout_seconds))
                before = self._tallies[ref]
                self._tallies[ref] = count(before, kind, what, ok, said)
                if verdict(container, before) != verdict(container, self._tallies[ref]):
                    self._wake()
            await asyncio.sleep(what.period_seconds)

    async def _make(self, handler: Handler, container: Container, ref: ContainerId, limit: float) -> tuple[bool, str]:
        async def execute(argv: tuple[str, ...], seconds: float) -> ExecResult:
            return await self._runtime.exec(ref, argv, seconds)

        return await probe(handler, container, self._host_ip() or "127.0.0.1", limit, execute)  # type: ignore[arg-type]

    def _drop(self, ref: ContainerId) -> None:
        for task in self._tasks.pop(ref):
            task.cancel()
        del self._tallies[ref], self._containers[ref]
