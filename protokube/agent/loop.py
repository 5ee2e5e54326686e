"""The loop: hear the sources, look at the provider, and do what the plan says, pod by pod, side by side.

Level-triggered: whatever woke it, a pod's next step follows from the facts alone. A step that fails is planned again
after its pause, for ever; nothing is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from msgspec.structs import replace

from protokube.agent.clock import boot_time
from protokube.agent.core.backoff import Pause, after_end, after_failure
from protokube.agent.core.model import Pod
from protokube.agent.core.plan import Create, Delete, Finish, Memory, Nothing, Step, Update, Wait, content_of, plan
from protokube.agent.core.pods import API, TERMINAL, is_deleting, key_of, owner_of, phase_of, title, uid_of
from protokube.agent.core.status import synthesized
from protokube.agent.core.unfilled import unfilled
from protokube.agent.facts import Facts
from protokube.agent.ports import NotFoundError, Notifies, Provider, RefusedError, Reporter, Source, Works
from protokube.agent.reporting import AllReports
from protokube.core.model import Fault, Unknown
from protokube.errors import ProviderError

log = logging.getLogger("protokube")

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 300.0
"""Seconds between two tries of a create or update that fails. The first of anything else is a tenth of that."""
LONGEST_SOURCE = 60.0
"""Seconds between two starts of a source that fails; one that ran so long begins with the first pause again."""
Happened = Callable[[Pod, str, str | None], None]
"""Told of a pod's Create, Update or Delete, with what went wrong."""
Fill = Callable[[Pod], Awaitable[Pod]]
POLL = 5.0
"""Seconds between two looks at a provider that doesn't tell of changes."""


class Agent:
    """Runs until cancelled.

    `resync`: seconds between two full looks at a provider that tells of changes. `workers`: pods worked on at once,
    and as many ends reported beside them: a reporter that doesn't answer keeps no pod from being created.
    `happened` is told of every call that changes a pod. `fill` makes of an API server's pod what the provider gets.
    """

    def __init__(
        self,
        provider: Provider,
        sources: Sequence[Source],
        reporter: Reporter | Sequence[Reporter],
        *,
        clock: Callable[[], float] = boot_time,
        workers: int = 10,
        resync: float = 60.0,
        first_pause: float = FIRST_PAUSE,
        happened: Happened | None = None,
        fill: Fill | None = None,
    ) -> None:
        self.facts = Facts([source.name for source in sources])
        self.planned = 0
        """How many pods were judged so far."""
        self._provider = provider
        self._sources = sources
        self._reports = AllReports([reporter] if isinstance(reporter, Reporter) else reporter, clock)
        self._happened = happened
        self._fill = fill
        self._last_words: dict[str, Pod] = {}
        """UID → the pod as it ended, until its end is reported."""
        self._clock = clock
        self._workers, self._finishers = asyncio.Semaphore(workers), asyncio.Semaphore(workers)
        self._resync = resync
        self._first_pause = first_pause
        self._pause = Pause()
        self._dirty: set[str] = set()
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._wake = asyncio.Event()
        self._relook = asyncio.Event()
        self._looks = 0
        self._acted: dict[str, int] = {}  # UID → the look after which it was acted upon
        self._trouble: str | None = None
        self._earlier: frozenset[str] = frozenset()

    @property
    def idle(self) -> bool:
        """Whether nothing is to be judged and nothing is in hand."""
        return not self._dirty and not self._busy

    async def run(self) -> None:
        """Hear, look, plan and act until cancelled. No pod ends with it."""
        self._earlier = await self._reports.recall()
        tasks: list[Coroutine[Any, Any, None]] = [self._hear(source) for source in self._sources]
        tasks += [self._watch(), self._plan_for_ever(), self._reports.run()]
        if isinstance(self._provider, Works):
            tasks.append(self._provider.work())
        try:
            async with asyncio.TaskGroup() as group:
                for task in tasks:
                    group.create_task(task)
        finally:
            for timer in self._timers.values():
                timer.cancel()
            for busy in self._busy.values():
                busy.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    # --- sources -------------------------------------------------------------------------------------

    async def _hear(self, source: Source) -> None:
        pause = Pause()
        known: dict[str, None] = {}

        def say(pods: Mapping[str, Pod] | Unknown, held: Collection[str] = (), faults: Sequence[Fault] = ()) -> None:
            nonlocal known
            if isinstance(pods, Unknown) and self.facts.sources[source.name].unknown != pods.reason:
                log.warning("source %s: unknown: %s; its pods are left alone", source.name, pods.reason)
            now = dict.fromkeys(map(str, faults))
            for text in now.keys() - known.keys():
                log.error("source %s: %s", source.name, text)
            known = now
            self._mark(self.facts.hear(source.name, pods, held))

        while True:
            began = self._clock()
            try:
                await source.run(say)
                reason = "it ended"
            except ProviderError as error:
                reason = str(error)
            say(Unknown(reason))
            pause = after_end(pause, began, self._clock(), first=self._first_pause / 10, longest=LONGEST_SOURCE)
            await asyncio.sleep(pause.until - self._clock())

    # --- the provider --------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Look at the provider's pods: all of them at first and now and then, and those it tells of."""
        while True:
            try:
                if isinstance(self._provider, Notifies):
                    await self._follow(self._provider)
                else:
                    await self._look()
                    await self._look_due(POLL)
            except ProviderError as error:
                self._unreadable(str(error))
                self._pause = after_failure(self._pause, self._clock(), first=self._first_pause / 10, longest=30.0)
                await asyncio.sleep(self._pause.until - self._clock())

    async def _follow(self, provider: Notifies) -> None:
        changes = aiter(provider.changes())
        waiting = {"change": asyncio.ensure_future(anext(changes)), "look": self._look_due(0.0)}
        try:
            while True:
                await asyncio.wait(waiting.values(), return_when=asyncio.FIRST_COMPLETED)
                if waiting["look"].done():
                    await self._look()
                    waiting["look"] = self._look_due(self._resync)
                if not waiting["change"].done():
                    continue
                try:
                    pod = waiting["change"].result()
                except StopAsyncIteration:
                    raise ProviderError("the provider tells of no more changes") from None
                waiting["change"] = asyncio.ensure_future(anext(changes))
                if pod is None:
                    await self._look()
                elif is_deleting(pod) and phase_of(pod) in TERMINAL:
                    self._last_words[uid_of(pod)] = pod
                    await self._look_at(uid_of(pod), key_of(pod))
                elif uid_of(pod) not in self._busy:
                    self._mark(self.facts.see(uid_of(pod), pod))
        finally:
            for task in waiting.values():
                task.cancel()
            await asyncio.gather(*waiting.values(), return_exceptions=True)

    def _look_due(self, after: float) -> asyncio.Future[Any]:
        """Done when the next full look is due: after so many seconds, or on request."""

        async def due() -> None:
            with suppress(TimeoutError):
                # Not wait_for: before Python 3.12 it may swallow a cancellation that comes with the event.
                async with asyncio.timeout(after):
                    await self._relook.wait()

        return asyncio.ensure_future(due())

    async def _look(self) -> None:
        self._relook.clear()
        self._looks += 1
        look = self._looks
        pods = list(await self._provider.get_pods())
        self._pause = Pause()
        if self._trouble is not None:
            log.info("the provider can be read again")
            self._trouble = None
        # What was acted upon since the look began is newer than its answer.
        newer = self._busy.keys() | {uid for uid, acted in self._acted.items() if acted >= look}
        if newer:
            kept = [pod for uid, pod in self.facts.running.items() if uid in newer]
            pods = [pod for pod in pods if uid_of(pod) not in newer] + kept
        self._acted = {uid: acted for uid, acted in self._acted.items() if acted >= look}
        changed = self.facts.take_all(pods)
        # What an earlier agent reported is judged once too: if nobody runs or wants it, its end is to be reported.
        earlier, self._earlier = self._earlier, frozenset()
        self._mark(changed | earlier)

    async def _look_at(self, uid: str, key: tuple[str, str]) -> None:
        pod = await self._provider.get_pod(*key)
        if pod is not None and uid_of(pod) != uid:
            self._mark(self.facts.see(uid_of(pod), pod))
            pod = None
        self._mark(self.facts.see(uid, pod))

    def _unreadable(self, reason: str) -> None:
        if self._trouble != reason:
            log.warning("the provider can't be read: %s; nothing is created or removed", reason)
        self._trouble = reason
        self.facts.readable = False
        self._relook.set()

    # --- plan and act --------------------------------------------------------------------------------

    def _mark(self, uids: Collection[str]) -> None:
        if uids:
            self._dirty.update(uids)
            self._wake.set()

    async def _plan_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = self._dirty, set()
            for uid in dirty:
                self._judge(uid)

    def _judge(self, uid: str) -> None:
        if uid in self._busy or not self.facts.readable:
            return  # it is judged again when that ends
        self.planned += 1
        memory = self.facts.memories.get(uid, Memory())
        view = self.facts.view(uid)
        if view.running is not None and not memory.seen:
            memory = self.facts.memories[uid] = replace(memory, seen=True)
        if view.running is None and memory.removal is not None:
            memory = self.facts.memories[uid] = Memory(again=True)
        step = plan(view, memory, self._clock())
        if (timer := self._timers.pop(uid, None)) is not None:
            timer.cancel()
        self._tell(uid, step, memory)
        if isinstance(step, Wait):
            if step.until is not None:
                delay = max(0.0, step.until - self._clock())
                self._timers[uid] = asyncio.get_running_loop().call_later(delay, self._mark, (uid,))
        elif isinstance(step, Nothing):
            if view.running is not None:
                self.facts.memories[uid] = Memory(seen=True)
            elif view.wanted is None:
                self.facts.memories.pop(uid, None)
                self._last_words.pop(uid, None)
        else:
            if isinstance(step, Create):
                self.facts.creating[uid] = step.pod
            self._busy[uid] = asyncio.create_task(self._act(uid, step, memory))

    async def _act(self, uid: str, step: Create | Update | Delete | Finish, memory: Memory) -> None:
        try:
            async with self._finishers if isinstance(step, Finish) else self._workers:
                self.facts.memories[uid] = await self._do(uid, step, memory)
                if not isinstance(step, Finish):
                    await self._look_again(uid, step.pod)
        finally:
            self.facts.creating.pop(uid, None)
            self._busy.pop(uid, None)
            self._mark(self.facts.with_namesakes({uid}, {uid: step.pod}))

    async def _look_again(self, uid: str, pod: Pod) -> None:
        self._acted[uid] = self._looks
        try:
            now = await self._provider.get_pod(*key_of(pod))
        except ProviderError as error:
            self._unreadable(str(error))
            return
        self.facts.see(uid, now if now is not None and uid_of(now) == uid else None)
        if now is not None and uid_of(now) != uid:
            self._mark(self.facts.see(uid_of(now), now))

    async def _do(self, uid: str, step: Create | Update | Delete | Finish, memory: Memory) -> Memory:
        """Execute one step; return what is remembered of it."""
        try:
            after = await self._call(uid, step, memory)
        except RefusedError as error:
            if isinstance(step, Update):
                return replace(memory, replacing=True, content=content_of(step.pod))
            log.error("%s is refused: %s", title(step.pod), error)
            self._say(step, str(error))
            return replace(memory, refused=error.reasons, content=content_of(step.pod))
        except NotFoundError:
            return replace(memory, removal=step.grace) if isinstance(step, Delete) else memory
        except ProviderError as error:
            memory = self._paused(memory)
            log.warning("%s: %s; next try in %.0f s", title(step.pod), error, memory.pause.until - self._clock())
            self._say(step, str(error))
            return replace(memory, error=str(error))
        self._say(step, None)
        return after

    async def _call(self, uid: str, step: Create | Update | Delete | Finish, memory: Memory) -> Memory:
        pod = step.pod
        if self._fill is not None and owner_of(pod) == API and isinstance(step, Create | Update):
            pod = await self._fill(pod)
        if isinstance(step, Create):
            log.info("create %s (%s)", title(pod), uid)
            await self._provider.create_pod(pod)
            return replace(self._paused(memory), error=None, seen=True)
        if isinstance(step, Update):
            log.info("update %s (%s)", title(pod), uid)
            await self._provider.update_pod(pod)
            return replace(self._paused(memory), error=None, seen=True)
        if isinstance(step, Delete):
            log.info("delete %s (%s) within %d s: %s", title(pod), uid, step.grace, step.reason)
            metadata = {**pod["metadata"], "deletionGracePeriodSeconds": step.grace}
            await self._provider.delete_pod({**pod, "metadata": metadata})
            return replace(memory, removal=step.grace, error=None)
        await self._reports.finish(self._last(pod))
        self._last_words.pop(uid, None)
        return Memory(finished=True, deleted=is_deleting(pod))

    def _last(self, pod: Pod) -> Pod:
        """A pod that is no more, with its last status: what it came with, what it ended with, or that it was lost."""
        if phase_of(pod) in TERMINAL:
            return pod
        if (last := self._last_words.get(uid_of(pod))) is not None:
            return {**pod, "status": last["status"]}
        return synthesized(pod, "Failed", "NotFound", "the provider has it no more", pod.get("status"))

    def _say(self, step: Create | Update | Delete | Finish, error: str | None) -> None:
        if self._happened is not None and not isinstance(step, Finish):
            self._happened(step.pod, type(step).__name__, error)

    def _paused(self, memory: Memory) -> Memory:
        """The memory with a longer pause: it ends as soon as the pod is seen to be as it should."""
        pause = after_failure(memory.pause, self._clock(), first=self._first_pause, longest=LONGEST_PAUSE)
        return replace(memory, pause=pause)

    def _tell(self, uid: str, step: Step, memory: Memory) -> None:
        """Hand the pod's newest status to the reports."""
        view = self.facts.view(uid)
        if view.running is not None:
            self._reports.pod(view.running if self._fill is None else unfilled(view.running, view.wanted))
        elif view.wanted is None:
            self._reports.gone(uid)
        elif memory.refused and isinstance(step, Nothing):
            self._reports.pod(synthesized(view.wanted, "Failed", "ProviderFailed", "; ".join(memory.refused)))
        elif isinstance(step, Wait):
            reason = "ProviderFailed" if memory.error is not None else "Waiting"
            self._reports.pod(synthesized(view.wanted, "Pending", reason, step.reason))
