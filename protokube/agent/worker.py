"""One pod's life on this machine: look at its containers, decide, act, tell; again when something happens.

All that matters is on the disk (the record) or in the runtime. Lost with the agent: pauses and results of probes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from protokube.agent.core.backoff import Pause, after_exit, after_failure
from protokube.agent.core.expand import arguments, environment
from protokube.agent.core.lifecycle import (
    EXITED,
    ContainerId,
    ContainerState,
    Decision,
    Ending,
    Gone,
    Life,
    Start,
    Stop,
    decide,
)
from protokube.agent.core.model import Container, Pod, spec_of
from protokube.agent.core.pods import TERMINAL, title, uid_of
from protokube.agent.core.references import mounted
from protokube.agent.core.status import Seen, pod_status, time_text
from protokube.agent.ports import ContainerSpec, Resolve, Runtime, UnresolvedError
from protokube.agent.probing import Probing
from protokube.agent.records import Record, Records
from protokube.agent.volumes import Volumes
from protokube.errors import ProviderError

log = logging.getLogger("protokube")

TROUBLES = (ProviderError, ValueError)
"""What a pod's worker goes on after. Python's system calls raise ValueError for text with a zero byte."""
SHORTEST_GRACE = 1.0
_SLACK = 1.0
"""Seconds after which a container that outlives its grace is killed by us, since its runtime didn't."""


class Surroundings(Struct, frozen=True):
    """What every pod's worker works with. `boot`: the id of this boot."""

    runtime: Runtime
    records: Records
    volumes: Volumes
    boot: str
    clock: Callable[[], float]
    wall: Callable[[], float]
    host_ip: Callable[[], str]
    containers: Callable[[str], Awaitable[Sequence[ContainerState]]]
    """The containers of a UID, as fresh as need be."""
    resolve: Resolve
    acted: Callable[[], None]
    tell: Callable[[Pod], None]


class PodWorker:
    """Runs one pod until it is gone."""

    def __init__(self, record: Record, around: Surroundings) -> None:
        self.record = record
        self.status = record.final
        self._around = around
        self._spec = spec_of(record.pod)
        self._wake = asyncio.Event()
        self._pauses: dict[str, Pause] = {}
        self._counted: dict[str, int] = {}
        self._waiting: dict[str, tuple[str, str]] = {}
        self._stops: dict[ContainerId, float] = {}  # → boot time by which it must have ended
        self._stopping: set[asyncio.Task[None]] = set()
        self._probing = Probing(around.runtime, around.host_ip, self.wake)
        self._trouble = Pause()
        self.looked = asyncio.Event()
        """Set once the status tells what runs, or that can't be seen."""

    @property
    def pod(self) -> Pod:
        """The pod with its newest status."""
        pod = self.record.pod
        status = self.status or {"phase": "Pending", "startTime": time_text(self.record.started_at)}
        return {**pod, "status": status}

    def wake(self) -> None:
        """Have the pod looked at."""
        self._wake.set()

    def end(self, grace: float) -> None:
        """End the pod within so many seconds; a second call can only shorten. Raises ProviderError."""
        now = self._around.clock()
        before = self.record.ending
        if before is not None and now + grace >= before.since + before.grace:
            return
        metadata = {
            "deletionTimestamp": time_text(self._around.wall() + grace),
            **self.record.pod["metadata"],
            "deletionGracePeriodSeconds": int(grace),
        }
        pod = {**self.record.pod, "metadata": metadata}
        self._save(replace(self.record, pod=pod, ending=Ending(now, grace)))
        self.wake()

    def replace_pod(self, pod: Pod) -> None:
        """Take over a pod whose containers are the same. Raises ProviderError."""
        self._save(replace(self.record, pod=pod))
        self._spec = spec_of(pod)
        self.wake()

    async def refresh(self) -> None:
        """Write what the API server has now into the volumes of containers that run. Raises ProviderError."""
        uid = uid_of(self.record.pod)
        for container in self._spec.all_containers():
            if container.name in self.record.attempts and mounted(self._spec, container):
                resolved = await self._around.resolve(self.record.pod, self._spec, container)
                if self.record.ending is None:
                    await asyncio.to_thread(self._around.volumes.fill, uid, resolved.files)

    async def run(self) -> None:
        """Go on until the pod is gone. Cancelled, it leaves the containers as they are."""
        try:
            await self._first_look()
            while True:
                self._wake.clear()
                try:
                    look_at = await self._step()
                    self._trouble = Pause()
                except TROUBLES as error:
                    self._trouble = after_failure(self._trouble, self._around.clock(), first=1.0, longest=30.0)
                    look_at = self._trouble.until
                    log.warning("%s: %s", title(self.record.pod), error)
                if look_at is _GONE:
                    return
                await self._sleep(look_at)
        finally:
            self._probing.close()
            for task in self._stopping:
                task.cancel()
            await asyncio.gather(*self._stopping, return_exceptions=True)

    async def _first_look(self) -> None:
        """See what an earlier agent has left running, so that a pod that runs is never shown as one that doesn't."""
        try:
            if self.record.boot == self._around.boot and self.record.attempts:
                states = await self._around.containers(uid_of(self.record.pod))
                self._tell(self._life(states), states)
        except ProviderError as error:
            log.warning("%s: %s", title(self.record.pod), error)
        finally:
            self.looked.set()

    async def _sleep(self, until: float | None) -> None:
        limit = None if until is None else max(0.0, until - self._around.clock())
        with suppress(TimeoutError):
            # Not wait_for: before Python 3.12 it may swallow a cancellation that comes with the event.
            async with asyncio.timeout(limit):
                await self._wake.wait()

    # --- one step ------------------------------------------------------------------------------------

    async def _step(self) -> float | None:
        """Look, decide and act once; return the boot time of the next look."""
        if self.record.boot != self._around.boot:
            self._begin_boot()
        states = await self._around.containers(uid_of(self.record.pod))
        await self._clear_away(states)
        life = self._life(states)
        self._probing.follow([(state, self._container(state.id.container)) for state in life.containers.values()])
        decision = decide(life) if self.record.final is None or self.record.ending is not None else Decision()
        if Gone() in decision.deeds:
            self._tell(life, states)  # how it ended is reported after it is gone
            await self._vanish(states)
            return _GONE
        if decision.failed is not None and self.record.failed is None:
            self._save(replace(self.record, failed=decision.failed))
        starting = [one.container for one in decision.deeds if isinstance(one, Start)]
        for one in starting:
            await self._start(one, life)
        for deed in decision.deeds:
            if isinstance(deed, Stop):
                self._stop(deed, life.containers[deed.container].id)
        await self._kill_overdue(states)
        if starting:
            states = await self._around.containers(uid_of(self.record.pod))
            life = self._life(states)
            self._probing.follow([(state, self._container(state.id.container)) for state in life.containers.values()])
        self._tell(life, states)
        times = [
            one for one in (decision.look_at, *(end + _SLACK for end in self._stops.values())) if one is not None
        ]
        times += [self._pauses[one].until for one in starting if one in self._waiting]
        if starting and not any(one in self._waiting for one in starting):
            self._wake.set()  # what was started decides what comes next
        return min(times, default=None)

    def _begin_boot(self) -> None:
        """The machine was switched off: whatever ran is history, and init containers run again, as with kubelet."""
        around = self._around
        record = replace(self.record, boot=around.boot, since=around.clock(), begun=False)
        self._save(replace(record, floor=dict(record.attempts)))

    def _life(self, states: Sequence[ContainerState]) -> Life:
        record, now = self.record, self._around.clock()
        current = [one for one in states if one.id.attempt > record.floor.get(one.id.container, -1)]
        latest = {one.id.container: one for one in sorted(current, key=lambda one: one.id)}
        lost = set()
        for name, attempt in record.attempts.items():
            known = latest[name].id.attempt if name in latest else -1
            if attempt > known and attempt > record.floor.get(name, -1):
                latest.pop(name, None)
                lost.add(name)
        self._count(latest, lost, now)
        self._stops = {one: end for one, end in self._stops.items() if any(s.id == one and s.up for s in states)}
        return Life(
            self._spec,
            latest,
            frozenset(lost),
            record.begun,
            self._probing.verdicts(),
            dict(self._pauses),
            record.ending,
            now,
            float("inf") if record.failed else now - record.since,
        )

    def _count(self, latest: dict[str, ContainerState], lost: set[str], now: float) -> None:
        """Count each end of a container once: it makes the pause before its next start."""
        ended = {name: (one.id.attempt, _ran(one)) for name, one in latest.items() if one.state == EXITED}
        ended |= {name: (self.record.attempts[name], 0.0) for name in lost}
        for name, (attempt, ran) in ended.items():
            if self._counted.get(name, -1) < attempt:
                self._counted[name] = attempt
                self._pauses[name] = after_exit(self._pauses.get(name, Pause()), now, ran)

    async def _clear_away(self, states: Sequence[ContainerState]) -> None:
        """Remove containers of earlier boots, and all but the last two attempts of each."""
        latest: dict[str, int] = {}
        for one in states:
            latest[one.id.container] = max(latest.get(one.id.container, 0), one.id.attempt)
        for one in states:
            name, attempt = one.id.container, one.id.attempt
            old = attempt < latest[name] - 1 or attempt <= self.record.floor.get(name, -1)
            if old and not one.up:
                await self._around.runtime.remove(one.id)
                self._around.acted()
            elif one.up and (attempt < latest[name] or attempt <= self.record.floor.get(name, -1)):
                self._stop(Stop(name, SHORTEST_GRACE, "another attempt of it runs"), one.id)

    async def _start(self, name: str, life: Life) -> None:
        container, around = self._container(name), self._around
        known = life.containers[name].id.attempt if name in life.containers else -1
        attempt = max(known, self.record.attempts.get(name, -1)) + 1
        ref = ContainerId(uid_of(self.record.pod), name, attempt)
        try:
            resolved = await around.resolve(self.record.pod, self._spec, container)
            env = environment(self.record.pod, container, around.host_ip(), resolved.given)
            mounts = await asyncio.to_thread(around.volumes.mounts, ref.uid, self._spec, container, resolved.files)
            argv = arguments(container, dict(env))
            await around.runtime.start(ContainerSpec(ref, self.record.pod, container, env, argv, tuple(mounts)))
        except TROUBLES as error:
            reason = "CreateContainerConfigError" if isinstance(error, UnresolvedError) else "CreateContainerError"
            if self._waiting.get(name) != (reason, str(error)):
                log.warning("%s: container %s: %s", title(self.record.pod), name, error)
            self._waiting[name] = (reason, str(error))
            before = self._pauses.get(name, Pause())
            self._pauses[name] = after_failure(before, around.clock(), first=1.0, longest=10.0)
            return
        finally:
            around.acted()
        if name in self._waiting:
            del self._waiting[name]
            self._pauses.pop(name, None)
        log.info("%s: container %s started, attempt %d", title(self.record.pod), name, attempt)
        begun = self.record.begun or any(one.name == name for one in self._spec.containers)
        self._save(replace(self.record, attempts={**self.record.attempts, name: attempt}, begun=begun))

    def _stop(self, deed: Stop, ref: ContainerId) -> None:
        """Ask once for a container's end; a later call can only bring it nearer."""
        grace = max(SHORTEST_GRACE, deed.grace)
        deadline = self._around.clock() + grace
        if ref in self._stops:
            self._stops[ref] = min(self._stops[ref], deadline)
            return
        self._stops[ref] = deadline
        log.info("%s: container %s ends within %.0f s: %s", title(self.record.pod), ref.container, grace, deed.reason)
        task = asyncio.create_task(self._end_container(ref, deadline))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _end_container(self, ref: ContainerId, deadline: float) -> None:
        container, around = self._container(ref.container), self._around
        try:
            if container.lifecycle is not None and container.lifecycle.pre_stop is not None:
                left = max(SHORTEST_GRACE, deadline - around.clock())
                ok, said = await self._probing.hook(container.lifecycle.pre_stop, container, ref, left)
                if not ok:
                    log.warning("%s: preStop of %s: %s", title(self.record.pod), ref.container, said)
            await around.runtime.stop(ref, max(SHORTEST_GRACE, deadline - around.clock()))
        except TROUBLES as error:
            log.warning("%s: end of %s: %s", title(self.record.pod), ref.container, error)
            self._stops.pop(ref, None)  # the next look asks again
        finally:
            around.acted()
            self.wake()

    async def _kill_overdue(self, states: Sequence[ContainerState]) -> None:
        now = self._around.clock()
        for one in states:
            end = self._stops.get(one.id)
            if end is not None and one.up and now >= end + _SLACK:
                log.warning("%s: container %s outlived its grace: killed", title(self.record.pod), one.id.container)
                await self._around.runtime.kill(one.id)
                self._stops[one.id] = now + _SLACK
                self._around.acted()

    async def _vanish(self, states: Sequence[ContainerState]) -> None:
        """Remove what is left of the pod; its record last."""
        for one in states:
            await self._around.runtime.remove(one.id)
        self._around.acted()
        await asyncio.to_thread(self._around.volumes.release, uid_of(self.record.pod))
        self._around.records.remove(self.record)
        log.info("%s is gone", title(self.record.pod))

    # --- telling -------------------------------------------------------------------------------------

    def _tell(self, life: Life, states: Sequence[ContainerState]) -> None:
        if self.record.final is not None:
            return
        record = self.record
        last = {
            one.id.container: one
            for one in sorted(states, key=lambda one: one.id)
            if one.state == EXITED and one.id.attempt < record.attempts.get(one.id.container, 0)
        }
        seen = Seen(
            record.started_at,
            self._around.wall(),
            self._around.host_ip() if self._spec.host_network else "",
            dict(self._waiting),
            last,
            record.attempts,
            record.failed,
        )
        status = pod_status(life, seen, self.status)
        over = status["phase"] in TERMINAL and not any(one.up for one in states)
        if over and record.ending is None:
            self._save(replace(record, final=status))
        if status != self.status:
            self.status = status
            self._around.tell(self.pod)

    def _container(self, name: str) -> Container:
        return next((one for one in self._spec.all_containers() if one.name == name), Container(name))

    def _save(self, record: Record) -> None:
        self._around.records.save(record)
        self.record = record


_GONE = float("-inf")


def _ran(one: ContainerState) -> float:
    if one.started_at is None or one.finished_at is None:
        return 0.0
    return max(0.0, one.finished_at - one.started_at)
