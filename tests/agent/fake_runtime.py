"""Containers in memory, for the life cycle's tests: a world that outlives the agents that work on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from msgspec.structs import replace

from protokube.agent.core.lifecycle import EXITED, RUNNING, ContainerId, ContainerState
from protokube.agent.core.model import Pod
from protokube.agent.core.pods import key_of
from protokube.agent.ports import ContainerSpec, ExecResult, LogOptions
from protokube.errors import ProviderError


class World:
    """What runs. Two running containers of one name in pods of one name are a failure."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.states: dict[ContainerId, ContainerState] = {}
        self.specs: dict[ContainerId, ContainerSpec] = {}
        self.started: list[str] = []
        self.graces: list[float] = []
        self.stubborn: set[str] = set()
        """Containers that ignore TERM."""
        self.instant: dict[str, int] = {}
        """Containers that exit at once, and with which code."""
        self.broken: str | None = None
        self.answers: dict[str, bool] = {}
        """Exec probes: container → whether they pass."""
        self.dark: str | None = None
        """Why the runtime can't be read."""
        self.listeners: list[asyncio.Queue[str | ProviderError | None]] = []

    def up(self) -> list[str]:
        """The running containers by name."""
        return sorted(ref.container for ref, state in self.states.items() if state.up)

    def exit(self, container: str, code: int = 1, ran: float = 1.0) -> None:
        """Have a running container exit."""
        (ref,) = [ref for ref, state in self.states.items() if state.up and ref.container == container]
        self.set(ref, EXITED, code, ran)

    def lose(self, reason: str) -> None:
        """Have the runtime be unreadable from now on; who listens is told."""
        self.dark = reason
        for queue in self.listeners:
            queue.put_nowait(ProviderError(reason))

    def reboot(self) -> None:
        """Everything that ran is gone."""
        self.states.clear()

    def set(self, ref: ContainerId, state: str, code: int | None = None, ran: float = 1.0) -> None:
        ended = self.now + ran if state == EXITED else None
        self.states[ref] = ContainerState(ref, state, self.now, ended, code)
        if state == RUNNING:
            same = [
                other
                for other, there in self.states.items()
                if there.up
                and other.container == ref.container
                and key_of(self.specs[other].pod) == key_of(self.specs[ref].pod)
            ]
            assert len(same) == 1, f"two of one container: {same}"
        for queue in self.listeners:
            queue.put_nowait(ref.uid)


class FakeRuntime:
    """An agent's hand on the world. `effect` is called before and after each effect, and may never return."""

    name = "fake"

    def __init__(self, world: World, effect: Callable[[], asyncio.Future[None] | None] = lambda: None) -> None:
        self._world = world
        self._effect = effect

    def refuse(self, pod: Pod) -> Sequence[str]:
        return ["no host network"] if not pod["spec"].get("hostNetwork") else []

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def start(self, spec: ContainerSpec) -> None:
        await self._point()
        world = self._world
        if world.broken is not None:
            raise ProviderError(world.broken)
        if spec.id not in world.states:
            world.started.append(spec.container.name)
            world.specs[spec.id] = spec
            world.set(spec.id, RUNNING)
            if (code := world.instant.get(spec.container.name)) is not None:
                world.set(spec.id, EXITED, code)
        await self._point()

    async def stop(self, ref: ContainerId, grace: float) -> None:
        await self._point()
        self._world.graces.append(grace)
        state = self._world.states.get(ref)
        if state is not None and state.up and ref.container not in self._world.stubborn:
            self._world.set(ref, EXITED, 0)
        await self._point()

    async def kill(self, ref: ContainerId) -> None:
        state = self._world.states.get(ref)
        if state is not None and state.up:
            self._world.set(ref, EXITED, 137)

    async def remove(self, ref: ContainerId) -> None:
        await self._point()
        state = self._world.states.get(ref)
        assert state is None or not state.up, "only ended containers are removed"
        self._world.states.pop(ref, None)
        await self._point()

    async def containers(self) -> Sequence[ContainerState]:
        if self._world.dark is not None:
            raise ProviderError(self._world.dark)
        return [replace(state) for state in self._world.states.values()]

    async def exec(self, ref: ContainerId, argv: Sequence[str], limit: float) -> ExecResult:
        return ExecResult(0 if self._world.answers.get(ref.container, True) else 1, b"said")

    async def logs(self, ref: ContainerId, options: LogOptions) -> AsyncIterator[bytes]:
        yield str(ref).encode()

    async def changes(self) -> AsyncIterator[str | None]:
        queue: asyncio.Queue[str | ProviderError | None] = asyncio.Queue()
        self._world.listeners.append(queue)
        try:
            while True:
                event = await queue.get()
                if isinstance(event, ProviderError):
                    raise event
                yield event
        finally:
            self._world.listeners.remove(queue)

    async def _point(self) -> None:
        waiting = self._effect()
        if waiting is not None:
            await waiting
