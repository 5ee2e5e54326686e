"""Pods on this machine, over any runtime: kubelet's life cycle, one worker a pod.

Pods go on without the agent and without a source: every record is picked up again at the start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

from protokube.agent.clock import boot_time, wall_time
from protokube.agent.core.backoff import Pause, after_failure
from protokube.agent.core.checks import faults_of_spec
from protokube.agent.core.equal import Difference, difference
from protokube.agent.core.lifecycle import ContainerId, ContainerState
from protokube.agent.core.model import Container, Pod, PodStatus, Spec, without_nulls
from protokube.agent.core.names import is_uid
from protokube.agent.core.pods import API, canonical, grace_of, key_of, owner_of, title, uid_of
from protokube.agent.given import KeptGiven
from protokube.agent.ports import (
    LogOptions,
    NotFoundError,
    RefusedError,
    Resolve,
    Resolved,
    Runtime,
    UnreachableError,
    UnresolvedError,
)
from protokube.agent.records import Record, Records
from protokube.agent.volumes import Volumes
from protokube.agent.worker import TROUBLES, PodWorker, Surroundings
from protokube.errors import ProviderError

log = logging.getLogger("protokube")

REFRESH_EVERY = 60.0
"""Seconds between two looks for other content of volumes, as in kubelet."""


class LocalProvider:
    """Runs pods by a runtime. Call `open` first, and keep `work` running."""

    def __init__(
        self,
        runtime: Runtime,
        records: Records,
        volumes: Volumes,
        *,
        boot: str,
        host_ip: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = boot_time,
        wall: Callable[[], float] = wall_time,
        refresh_every: float = REFRESH_EVERY,
    ) -> None:
        self._runtime = runtime
        self._workers: dict[str, PodWorker] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._listening: list[asyncio.Queue[Pod | None]] = []
        self._listing: dict[str, list[ContainerState]] | None = None
        self._reading = asyncio.Lock()
        self._trouble: ProviderError | None = None
        self._opened = asyncio.Event()
        self._around = Surroundings(
            runtime,
            records,
            volumes,
            boot,
            clock,
            wall,
            host_ip,
            self._containers,
            self._resolved,
            self._stale,
            self._tell,
        )
        self._given = KeptGiven(volumes.memory)
        self._refresh_every = refresh_every
        self._resolve: Resolve | None = None

    def resolve_by(self, resolve: Resolve) -> None:
        """Have what pods refer to found by this; without it such pods are refused."""
        self._resolve = resolve

    # --- the provider --------------------------------------------------------------------------------

    async def create_pod(self, pod: Pod) -> None:
        """Keep the pod on the disk, and start it."""
        uid = uid_of(pod)
        if uid in self._workers:
            return
        reasons = self._refuse(pod)
        if reasons:
            raise RefusedError(reasons)
        if (other := self._named(*key_of(pod))) is not None:
            raise ProviderError(f"pod {title(pod)} exists as {uid_of(other.record.pod)}; it must be gone first")
        around = self._around
        record = Record(pod, around.boot, around.clock(), around.wall())
        around.records.save(record)
        self._begin(record)

    async def update_pod(self, pod: Pod) -> None:
        """Take over labels, annotations and the like. Raises RefusedError when the containers differ."""
        worker = self._of(pod)
        before = worker.record.pod
        if difference(pod, before) is Difference.REPLACE or _containers(pod) != _containers(before):
            raise RefusedError([f"{title(pod)}: its containers change"])
        worker.replace_pod(pod)

    async def delete_pod(self, pod: Pod) -> None:
        """End the pod within its grace."""
        self._of(pod).end(float(grace_of(pod)))

    async def get_pod(self, namespace: str, name: str) -> Pod | None:
        """The pod of that name."""
        worker = self._named(namespace, name)
        return None if worker is None else worker.pod

    async def get_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        """The status of the pod of that name."""
        pod = await self.get_pod(namespace, name)
        return None if pod is None else pod["status"]

    async def get_pods(self) -> Sequence[Pod]:
        """Every pod with its status."""
        await self._opened.wait()
        if self._trouble is not None:
            raise self._trouble
        return [worker.pod for worker in self._workers.values()]

    async def changes(self) -> AsyncIterator[Pod | None]:
        """Yield every pod that changes, and None when one is gone."""
        queue: asyncio.Queue[Pod | None] = asyncio.Queue()
        self._listening.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listening.remove(queue)

    async def ping(self) -> None:
        """Raise ProviderError when the runtime can't be read."""
        self._stale()
        await self._read()

    async def container_logs(
        self, namespace: str, pod: str, container: str, options: LogOptions
    ) -> AsyncIterator[bytes]:
        """What the container's last attempt has printed."""
        worker = self._named(namespace, pod)
        if worker is None or container not in worker.record.attempts:
            raise NotFoundError(f"{namespace}/{pod}: container {container} was never started here")
        ref = ContainerId(uid_of(worker.record.pod), container, worker.record.attempts[container])
        async for part in self._runtime.logs(ref, options):
            yield part

    async def close(self) -> None:
        """Let go of the runtime."""
        await self._runtime.close()

    # --- its work ------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Run the pods until cancelled; their containers go on without us."""
        records = await self._open()
        async with asyncio.TaskGroup() as self._tasks:
            for record in records.values():
                self._begin(record)
            for worker in list(self._workers.values()):
                await worker.looked.wait()
            self._opened.set()
            self._tell(None)
            self._tasks.create_task(self._refresh())
            await self._follow()

    async def _open(self) -> dict[str, Record]:
        """What is to run. Until both the records and the runtime can be read, nothing is done."""
        pause = Pause()
        while True:
            try:
                await self._runtime.open()
                records = await asyncio.to_thread(self._around.records.load)
                await self._read()
                self._opened.clear()
                return records
            except ProviderError as error:
                self._fail(error)
                self._opened.set()
                pause = after_failure(pause, self._around.clock(), first=1.0, longest=30.0)
                log.warning("%s; next try in %.0f s", error, pause.until - self._around.clock())
                await asyncio.sleep(pause.until - self._around.clock())

    async def _follow(self) -> None:
        while True:
            try:
                async for uid in self._runtime.changes():
                    self._stale()
                    self._wake(uid)
            except ProviderError as error:
                self._fail(error)
            await self._read_again()
            self._wake(None)

    async def _refresh(self) -> None:
        """Keep volumes as the API server has their content. What can't be had stays as it is."""
        while True:
            await asyncio.sleep(self._refresh_every)
            for worker in list(self._workers.values()):
                try:
                    await worker.refresh()
                except TROUBLES as error:
                    log.debug("%s: its volumes stay as they are: %s", title(worker.record.pod), error)

    async def _resolved(self, pod: Pod, spec: Spec, container: Container) -> Resolved:
        if owner_of(pod) != API:
            return Resolved()
        if self._resolve is None:
            raise UnresolvedError("there is no API server to ask (--standalone)")
        uid = uid_of(pod)
        try:
            found = await self._resolve(pod, spec, container)
        except UnreachableError as error:
            kept = self._given.load(uid, container.name)
            if kept is None:
                raise
            log.debug("%s: container %s: %s; it has what it had before", title(pod), container.name, error)
            return kept
        worker = self._workers.get(uid)
        if found != Resolved() and worker is not None and worker.record.ending is None:
            self._given.save(uid, container.name, found)
        return found

    async def _read_again(self) -> None:
        """Read the runtime until it answers: changes may have been missed meanwhile."""
        pause = Pause()
        while True:
            pause = after_failure(pause, self._around.clock(), first=0.1, longest=30.0)
            await asyncio.sleep(pause.until - self._around.clock())
            self._stale()
            with suppress(ProviderError):
                await self._read()
                return

    def _begin(self, record: Record) -> None:
        if self._tasks is None:
            raise ProviderError("the provider isn't ready yet")
        worker = PodWorker(record, self._around)
        self._workers[uid_of(record.pod)] = worker
        self._tasks.create_task(self._run(worker))

    async def _run(self, worker: PodWorker) -> None:
        await worker.run()
        del self._workers[uid_of(worker.record.pod)]
        self._tell(None)

    def _wake(self, uid: str | None) -> None:
        for one in [uid] if uid is not None else list(self._workers):
            if one in self._workers:
                self._workers[one].wake()

    # --- what runs -----------------------------------------------------------------------------------

    async def _containers(self, uid: str) -> Sequence[ContainerState]:
        return (await self._read()).get(uid, [])

    async def _read(self) -> dict[str, list[ContainerState]]:
        """All containers by UID. They are read again only when something may have changed."""
        async with self._reading:
            if self._listing is None:
                found: dict[str, list[ContainerState]] = {}
                self._listing = found
                try:
                    states = await self._runtime.containers()
                except ProviderError as error:
                    self._listing = None
                    self._fail(error)
                    raise
                for one in states:
                    found.setdefault(one.id.uid, []).append(one)
                if self._trouble is not None:
                    self._trouble = None
                    self._tell(None)
                return found
            return self._listing

    def _stale(self) -> None:
        self._listing = None

    def _fail(self, error: ProviderError) -> None:
        first, self._trouble = self._trouble is None, error
        if first:
            self._tell(None)

    def _tell(self, pod: Pod | None) -> None:
        for queue in self._listening:
            queue.put_nowait(pod)

    def _refuse(self, pod: Pod) -> list[str]:
        if not is_uid(uid_of(pod)):
            return [f"metadata.uid: a UUID or 32 hex digits were expected, got {uid_of(pod)!r}"]
        faults = list(faults_of_spec(without_nulls(pod["spec"]), api=owner_of(pod) == API))
        return faults or list(self._runtime.refuse(pod))

    def _named(self, namespace: str, name: str) -> PodWorker | None:
        found = (one for one in self._workers.values() if key_of(one.record.pod) == (namespace, name))
        return next(found, None)

    def _of(self, pod: Pod) -> PodWorker:
        worker = self._workers.get(uid_of(pod))
        if worker is None:
            raise NotFoundError(f"{title(pod)}: there is no such pod")
        return worker


def _containers(pod: Pod) -> bytes:
    spec = pod["spec"]
    return canonical([spec.get("containers"), spec.get("initContainers")])
