"""Reports every change of a pod's status until it was accepted; a status that was overtaken is not sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from protokube.agent.core.backoff import Pause, after_failure
from protokube.agent.core.model import Pod
from protokube.agent.core.pods import title, uid_of
from protokube.agent.ports import Remembers, Reporter
from protokube.errors import ProviderError

log = logging.getLogger("protokube")


class Reports:
    """The newest status of each pod, and what was accepted of it."""

    def __init__(self, reporter: Reporter, clock: Callable[[], float]) -> None:
        self._reporter = reporter
        self._clock = clock
        self._accepted: dict[str, Pod] = {}
        self._due: dict[str, Pod | None] = {}
        self._under_way: str | None = None
        self._wake = asyncio.Event()
        self._pause = Pause()

    async def recall(self) -> frozenset[str]:
        """Take up what an earlier agent reported, by UID: it may have been killed before it reported an end."""
        if isinstance(self._reporter, Remembers):
            try:
                self._accepted = {uid_of(pod): pod for pod in await self._reporter.reported()}
            except ProviderError as error:
                log.warning("earlier reports: %s; those of pods that are gone stay", error)
        return frozenset(self._accepted)

    def pod(self, pod: Pod) -> None:
        """Report this status, unless it was accepted already."""
        uid = uid_of(pod)
        if self._accepted.get(uid) == pod and uid not in self._due and uid != self._under_way:
            return
        self._due[uid] = pod
        self._wake.set()

    def gone(self, uid: str) -> None:
        """Report that the pod is gone, when it was ever reported."""
        if uid in self._accepted or uid in self._due or uid == self._under_way:
            self._due[uid] = None
            self._wake.set()

    async def finish(self, pod: Pod) -> None:
        """Report a last status, and then that the pod is gone. Raises ProviderError."""
        self._due.pop(uid_of(pod), None)
        await self._reporter.pod(pod)
        await self._reporter.gone(pod)
        self._accepted.pop(uid_of(pod), None)

    async def run(self) -> None:
        """Report until cancelled. One pod whose report fails doesn't keep the others waiting."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            failed = [uid for uid in list(self._due) if not await self._report(uid)]
            if failed:
                self._pause = after_failure(self._pause, self._clock(), first=1.0, longest=60.0)
                await asyncio.sleep(self._pause.until - self._clock())
                self._wake.set()
            else:
                self._pause = Pause()

    async def _report(self, uid: str) -> bool:
        due = self._due.pop(uid, None)
        last = self._accepted.get(uid)
        self._under_way = uid  # what is said meanwhile is due again: that one may be overtaken
        try:
            if due is not None:
                await self._reporter.pod(due)
                self._accepted[uid] = due
            elif last is not None:
                await self._reporter.gone(last)
                self._accepted.pop(uid, None)
        except ProviderError as error:
            log.warning("report of %s: %s; it is repeated", title(due or last or {}), error)
            self._due.setdefault(uid, due)
            return False
        finally:
            self._under_way = None
        return True


class AllReports:
    """The same reports to several reporters; one that fails keeps no other waiting."""

    def __init__(self, reporters: Sequence[Reporter], clock: Callable[[], float]) -> None:
        self._all = [Reports(one, clock) for one in reporters]

    async def recall(self) -> frozenset[str]:
        """What an earlier agent reported, by UID."""
        return frozenset().union(*[await one.recall() for one in self._all])

    def pod(self, pod: Pod) -> None:
        """Report this status."""
        for one in self._all:
            one.pod(pod)

    def gone(self, uid: str) -> None:
        """Report that the pod is gone."""
        for one in self._all:
            one.gone(uid)

    async def finish(self, pod: Pod) -> None:
        """Report a last status, and then that the pod is gone. Raises ProviderError."""
        for one in self._all:
            await one.finish(pod)

    async def run(self) -> None:
        """Report until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in self._all:
                group.create_task(one.run())
