"""A worker: Redis as a source of the agent's loop, and the loop's reports back to Redis.

What belongs here is `cs` with what starts, `rq`: both come with every heartbeat, so that whatever got lost on the way
is found again within one. A worker that can't hear Redis leaves its pods alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from protokube.agent.clock import boot_time
from protokube.agent.core.model import Pod
from protokube.agent.core.pods import is_deleting, uid_of
from protokube.agent.ports import Say
from protokube.core.model import Fault, Unknown
from protokube.errors import ProviderError
from protokube.kubeleet.connect import AGAIN, BLOCK, Connector, Link, Word, first_error
from protokube.kubeleet.core import pod as pods
from protokube.kubeleet.core.pod import (
    LONGEST_GARBAGE,
    MOST_DEAD,
    Failure,
    agent_pod,
    attempts_key,
    exists,
    failure,
    kept,
    raw_of,
)
from protokube.kubeleet.core.score import Load
from protokube.kubeleet.core.watch import BEAT
from protokube.kubeleet.generation import Generation
from protokube.kubeleet.keys import Keys

ATTEMPTS = 5
"""Starts that may fail before a pod is given up."""
LONGEST_PAUSE = 60.0
CUT_OFF = 12.0
"""Seconds without a heartbeat after which `stop_when_cut_off` ends all pods: they end before they are stale."""

log = logging.getLogger(__name__)


class Worker:
    """Source and reporter of one worker.

    `running` lists the pods that the provider has a record of. `load` reads the machine's pressure. `generation` is
    the highest that Redis has told: a Redis that tells less went back.
    `clock`: boot time, seconds.
    """

    name = pods.OWNER

    def __init__(
        self,
        worker: str,
        connector: Connector,
        keys: Keys,
        running: Callable[[], Awaitable[Sequence[Pod]]],
        load: Callable[[], Load],
        generation: Generation,
        *,
        stop_when_cut_off: bool = False,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self._worker = worker
        self._connector = connector
        self._keys = keys
        self._running = running
        self._load = load
        self._stops = stop_when_cut_off
        self._clock = clock
        self._say: Say = _nobody
        self._epoch: int | None = None
        self._generation = generation
        self._heard = clock()
        self._stopped = False
        self._belongs: set[bytes] = set()
        self._starting: dict[bytes, float] = {}  # pod → when it was taken
        self._resting: dict[bytes, float] = {}  # pod → until when it isn't tried
        self._seen: dict[str, bool | Failure] = {}  # UID → whether its container exists, or why it doesn't
        self._made: dict[bytes, Pod | Fault] = {}
        self._changed = asyncio.Event()

    # --- the agent's reporter ------------------------------------------------------------------------

    async def pod(self, pod: Pod) -> None:
        """Take note of a pod's status; `_settle` tells Redis."""
        raw = raw_of(pod)
        if raw is None or is_deleting(pod) or raw in self._resting:
            return
        verdict = exists(pod) or failure(pod)
        if verdict is not None:
            self._seen[uid_of(pod)] = verdict
            self._changed.set()

    async def gone(self, pod: Pod) -> None:
        """Forget a pod."""
        self._seen.pop(uid_of(pod), None)

    # --- the agent's source --------------------------------------------------------------------------

    async def run(self, say: Say) -> None:
        """Keep in touch with Redis until cancelled."""
        self._say = say
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sessions())
            if self._stops:
                group.create_task(self._guard())

    async def _sessions(self) -> None:
        trouble: str | None = None
        while True:
            try:
                async with (
                    self._connector.link() as link,
                    self._connector.blocking() as taking,
                ):
                    await self._beat(link)
                    log.info("redis %s: worker %s is in touch", self._connector.target, self._worker)
                    trouble = None
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._beats(link))
                        group.create_task(self._take(taking))
                        group.create_task(self._settle(link))
            except* ProviderError as errors:
                reason = str(first_error(errors))
                if trouble is None:
                    log.warning("%s; what runs goes on", reason)
                trouble = reason
                if not self._stopped:
                    self._say(Unknown(reason))
            await asyncio.sleep(AGAIN)

    async def _guard(self) -> None:
        """End all pods when Redis wasn't heard for too long: others will start them."""
        while True:
            await asyncio.sleep(1.0)
            if not self._stopped and self._clock() - self._heard > CUT_OFF:
                log.error("cut off from Redis for %.0f s: every pod ends now", CUT_OFF)
                self._stopped = True
                self._say({})

    # --- with Redis ----------------------------------------------------------------------------------

    async def _beats(self, link: Link) -> None:
        due = self._clock()
        while True:
            due = max(due + BEAT, self._clock())
            await asyncio.sleep(due - self._clock())
            await self._beat(link)

    async def _beat(self, link: Link) -> None:
        if self._epoch is None:
            await self._join(link)
        word, *rest = await self._heartbeat(link)
        if word != b"OK":
            await self._join(link, word.decode())
            word, *rest = await self._heartbeat(link)
            if word != b"OK":
                raise ProviderError(
                    f"worker {self._worker}: {word.decode()} right after it joined; are there two of it?"
                )
        generation, belongs, starting = rest
        self._generation.grow(generation)
        self._belongs = set(belongs)
        # What was taken since this heartbeat was sent isn't in its answer.
        late = {raw: at for raw, at in self._starting.items() if at >= self._heard}
        self._starting = {raw: self._starting.get(raw, self._heard) for raw in starting} | late
        self._stopped = False
        self._speak()

    async def _heartbeat(self, link: Link) -> Sequence[Any]:
        sent = self._clock()
        w, keys = self._worker, self._keys
        load = msgspec.structs.replace(self._load(), pods=len(self._belongs) + len(self._starting))
        names = [keys.epoch(w), keys.beat(w), keys.load(w), keys.running(w), keys.starting(w)]
        words: list[Word] = [self._epoch or 0, self._generation.highest, msgspec.json.encode(load)]
        answer: Sequence[Any] = await link.run("heartbeat", [*names, keys.generation(w)], words)
        if answer[0] == b"OK":
            self._heard = sent
        return answer

    async def _join(self, link: Link, why: str | None = None) -> None:
        w, keys = self._worker, self._keys
        # Not what runs: after a power cut nothing runs yet, and an image may be on its way.
        here = (set(kept(await self._running())) | self._belongs) - self._starting.keys()
        names = [keys.epoch(w), keys.beat(w), keys.workers, keys.running(w), keys.starting(w), keys.generation(w)]
        words: list[Word] = [w, self._generation.highest, len(here), *sorted(here), *self._starting]
        self._epoch, lost, generation = await link.run("join", names, words)
        self._generation.grow(generation)
        if why == "FENCED":
            log.warning("fenced: worker %s was silent, and its pods were given to others; it ends them", w)
        if lost and here:
            happened = "has lost everything" if lost == 1 else "went back to an earlier state"
            log.error("Redis %s: %d pods that belong here are put back, and go on", happened, len(here))
        log.info("worker %s joined, epoch %d", w, self._epoch)

    async def _take(self, link: Link) -> None:
        pending, starting = self._keys.pending(self._worker), self._keys.starting(self._worker)
        while True:
            raw = await link.call("BLMOVE", pending, starting, "RIGHT", "LEFT", BLOCK)
            if raw is not None:
                self._starting[raw] = self._clock()
                self._speak()

    async def _settle(self, link: Link) -> None:
        """Tell Redis of every pod that has started, or failed to."""
        while True:
            for raw in [raw for raw in self._starting if raw not in self._resting]:
                made = self._pod(raw)
                verdict = Failure(str(made), True) if isinstance(made, Fault) else self._seen.get(uid_of(made))
                if verdict is True:
                    await self._accept(link, raw)
                elif isinstance(verdict, Failure):
                    await self._fail(link, raw, verdict)
            await self._changed.wait()
            self._changed.clear()

    async def _accept(self, link: Link, raw: bytes) -> None:
        w, keys = self._worker, self._keys
        names = [keys.epoch(w), keys.generation(w), keys.running(w), keys.starting(w), keys.attempts]
        words: list[Word] = [self._epoch or 0, self._generation.highest, raw, attempts_key(raw)]
        word, *rest = await link.run("accept", names, words)
        _refuse(word)
        if word == b"OK":
            self._generation.grow(*rest)
            self._belongs.add(raw)
        self._starting.pop(raw, None)
        self._speak()

    async def _fail(self, link: Link, raw: bytes, why: Failure) -> None:
        w, keys = self._worker, self._keys
        shown = LONGEST_GARBAGE if isinstance(self._pod(raw), Fault) else None
        letter: dict[str, str] = {
            "pod": raw.decode(errors="backslashreplace")[:shown],
            "worker": w,
            "error": why.reason[:1000],
        }
        names = [keys.epoch(w), keys.starting(w), keys.attempts, keys.dead]
        most = 1 if why.final else ATTEMPTS
        words = (self._epoch or 0, raw, attempts_key(raw), most, json.dumps(letter)[:-1], MOST_DEAD)
        answer = await link.run("fail", names, words)
        _refuse(answer)
        self._seen.pop(pods.uid_of(raw), None)
        if isinstance(answer, int) and answer > 0:
            pause = min(LONGEST_PAUSE, 2.0 ** (answer - 1))
            log.warning("pod %s: %s; try %d failed, the next in %.0f s", letter["pod"], why.reason, answer, pause)
            self._resting[raw] = self._clock() + pause
            asyncio.get_running_loop().call_later(pause, self._rested, raw)
        else:
            if isinstance(answer, int):
                log.error(
                    "pod %s: %s; given up after %d tries, see the dead letters", letter["pod"], why.reason, -answer
                )
            self._starting.pop(raw, None)
        self._speak()

    def _rested(self, raw: bytes) -> None:
        self._resting.pop(raw, None)
        self._speak()

    # --- with the loop -------------------------------------------------------------------------------

    def _speak(self) -> None:
        """Say what belongs here and what starts; what rests after a failed start is not wanted for now."""
        if self._stopped:
            return
        here = self._belongs | (self._starting.keys() - self._resting.keys())
        self._made = {raw: made for raw, made in self._made.items() if raw in here}
        made = [self._pod(raw) for raw in sorted(here)]
        wanted = {uid_of(one): one for one in made if not isinstance(one, Fault)}
        self._say(wanted, faults=[one for one in made if isinstance(one, Fault)])
        self._changed.set()

    def _pod(self, raw: bytes) -> Pod | Fault:
        if raw not in self._made:
            self._made[raw] = agent_pod(raw)
        return self._made[raw]


def _refuse(answer: object) -> None:
    """Begin the session again when the epoch is over: joining comes before anything is ended."""
    if answer in (b"FENCED", b"EMPTIED", b"BACK"):
        raise ProviderError(f"redis: this worker's epoch is over: {answer!r}")


def _nobody(*_: object, **__: object) -> None:
    """Hears what is said before the loop runs."""
