"""A scheduler: places pods on workers, takes them from silent ones, and queues again what services miss.

Any number may run: a pod leaves a scheduler's own queue in the same script that places it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from protokube.agent.clock import boot_time
from protokube.errors import ProviderError
from protokube.kubeleet.connect import AGAIN, BLOCK, Connector, Link, Word, first_error
from protokube.kubeleet.core.census import ON, PENDING, QUEUED, STARTING, Census, Place, doubles, missing
from protokube.kubeleet.core.foreign import text_of
from protokube.kubeleet.core.score import Candidate, Choice, read_load
from protokube.kubeleet.core.watch import BEAT, STALE, Look, Watch, watch
from protokube.kubeleet.keys import Keys
from protokube.kubeleet.reading import number, read_census

BATCH = 100
"""Pods placed by one look at the workers."""
AUDIT = 20.0
"""Seconds between two audits; what is missing in two of them, with an empty queue, is queued again."""

log = logging.getLogger(__name__)


class Scheduler:
    """Runs until cancelled. `clock`: boot time, seconds."""

    def __init__(
        self, name: str, connector: Connector, keys: Keys, *, clock: Callable[[], float] = boot_time
    ) -> None:
        self._name = name
        self._connector = connector
        self._keys = keys
        self._clock = clock
        self._watch = Watch()
        self._missing: frozenset[bytes] = frozenset()

    async def run(self) -> None:
        """Keep at it until cancelled."""
        while True:
            # After an error nothing is known of the time before: everybody is watched anew.
            self._watch, self._missing = Watch(), frozenset()
            try:
                async with (
                    self._connector.link() as link,
                    self._connector.blocking() as taking,
                ):
                    log.info("redis %s: scheduler %s is in touch", self._connector.target, self._name)
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._place(link, taking))
                        group.create_task(self._watching(link))
                        group.create_task(self._auditing(link))
            except* ProviderError as errors:
                log.warning("%s", first_error(errors))
            await asyncio.sleep(AGAIN)

    # --- placing -------------------------------------------------------------------------------------

    async def _place(self, link: Link, taking: Link) -> None:
        queue, placing = self._keys.queue, self._keys.placing(self._name)
        left: Sequence[bytes] = list(reversed(await link.call("LRANGE", placing, 0, -1)))
        while True:
            if not left:
                pod = await taking.call("BLMOVE", queue, placing, "RIGHT", "LEFT", BLOCK)
                if pod is None:
                    continue
                left = [pod, *await link.run("take", [queue, placing], [BATCH - 1])]
            before = len(left)
            left = await self._place_batch(link, left)
            if len(left) == before:
                await asyncio.sleep(AGAIN)  # nobody is there to take them

    async def _place_batch(self, link: Link, left: Sequence[bytes]) -> Sequence[bytes]:
        """Place a batch; return the pods that are still to be placed."""
        look, candidates = await self._look(link)
        fresh = {
            w: one
            for w, one in candidates.items()
            if (beat := look.beats[w]) is not None and look.time - beat <= STALE
        }
        choice = Choice(fresh)
        chosen = [(raw, w) for raw in left[:BATCH] if (w := choice(raw)) is not None]
        if not chosen:
            return left
        words = [word for pair in chosen for word in pair]
        answers = await link.run("place", [self._keys.placing(self._name)], [self._keys.prefix, STALE, *words])
        stale = [raw for (raw, _), answer in zip(chosen, answers, strict=True) if answer == b"STALE"]
        return [*stale, *left[BATCH:]]

    async def _look(self, link: Link) -> tuple[Look, dict[str, Candidate]]:
        keys = self._keys
        names = [keys.scheduler_beat(self._name), keys.schedulers, keys.workers]
        boot = self._clock()
        time, workers, schedulers = await link.run("look", names, [keys.prefix, self._name])
        beats = {name: number(beat) for w, beat, _, _ in workers if (name := text_of(w)) is not None}
        # A worker may be called as a scheduler is: a blank is in no name.
        beats |= {f" {name}": number(beat) for s, beat in schedulers if (name := text_of(s)) is not None}
        candidates = {
            name: Candidate(pods, read_load(load)) for w, _, load, pods in workers if (name := text_of(w)) is not None
        }
        return Look(boot, float(time), beats), candidates

    # --- silent workers and schedulers ---------------------------------------------------------------

    async def _watching(self, link: Link) -> None:
        while True:
            look, _ = await self._look(link)
            self._watch, stale = watch(self._watch, look)
            for name in sorted(stale):
                await (self._reclaim(link, name[1:]) if name.startswith(" ") else self._rebalance(link, name))
            await asyncio.sleep(BEAT)

    async def _rebalance(self, link: Link, w: str) -> None:
        keys = self._keys
        lists = [keys.beat(w), keys.pending(w), keys.starting(w), keys.running(w)]
        moved = await link.run("rebalance", [*lists, keys.queue, keys.epoch(w), keys.workers], [w, STALE])
        if moved >= 0:
            log.warning("worker %s is silent: its %d pods go to others", w, moved)

    async def _reclaim(self, link: Link, s: str) -> None:
        keys = self._keys
        names = [keys.scheduler_beat(s), keys.placing(s), keys.queue, keys.schedulers]
        moved = await link.run("reclaim", names, [s, STALE])
        if moved >= 0:
            log.warning("scheduler %s is silent: the %d pods that it was placing are queued again", s, moved)

    # --- what is missing, and what is there twice ----------------------------------------------------

    async def _auditing(self, link: Link) -> None:
        while True:
            census = await read_census(link, self._keys)
            await self._drop(link, census)
            lacking = missing(census) if census.quiet else {}
            await self._repair(link, census, {raw: uuid for raw, uuid in lacking.items() if raw in self._missing})
            self._missing = frozenset(lacking)
            await asyncio.sleep(AUDIT)

    async def _repair(self, link: Link, census: Census, lacking: Mapping[bytes, str]) -> None:
        for uuid in dict.fromkeys(lacking.values()):
            pods = [raw for raw, owner in lacking.items() if owner == uuid]
            words: list[Word] = [self._keys.prefix, uuid, census.services[uuid], "REPAIR", *pods]
            *_, queued = await link.run("service", self._keys.of_service, words)
            log.warning("service %s: %d pods stood nowhere, and are queued again", uuid, queued)

    async def _drop(self, link: Link, census: Census) -> None:
        for raw, kept, other in doubles(census):
            if await link.run("drop", [self._key(kept), self._key(other)], [raw]):
                log.warning("pod %r stood twice: %s stays, %s goes", raw, kept, other)

    def _key(self, place: Place) -> str:
        keys = self._keys
        owned = {ON: keys.running, STARTING: keys.starting, PENDING: keys.pending, QUEUED: keys.placing}
        return owned[place.kind](place.owner) if place.owner else keys.queue
