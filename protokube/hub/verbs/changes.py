"""Verbs that change what protokube does: sync, hold and release. A hold ends by itself, hub or no hub."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from protokube.agent.files import remove, write_atomically
from protokube.errors import ProviderError, explain
from protokube.hub.core.checks import Order
from protokube.hub.core.course import Outcome
from protokube.hub.core.trial import Held, hold_ended
from protokube.hub.core.verbs import Hold
from protokube.hub.handlers import End, Say
from protokube.hub.verbs.programs import Programs, lines, run

UNIT = "protokube.service"
LIMIT = 60.0
"""Seconds that systemctl may take."""
LOOK = 5.0
"""Seconds between two looks at what is left to do."""

log = logging.getLogger(__name__)


class Plan(msgspec.Struct):
    """What a dry run's report tells of here."""

    settled: bool
    steps: list[object]


class Changes:
    """The handlers. `boot` names this boot, `boot_time` tells its seconds; `told` hears of a hold's begin and end."""

    def __init__(
        self,
        programs: Programs,
        state: Path,
        boot: str,
        boot_time: Callable[[], float],
        told: Callable[[], None],
        look: float = LOOK,
    ) -> None:
        self._programs = programs
        self._path = state / "held.json"
        self._boot = boot
        self._boot_time = boot_time
        self._told = told
        self._look = look

    # --- sync ---

    async def sync(self, _order: Order, say: Say, limit: float) -> End:
        """Let protokube reconcile now; it is done when a plan is empty, or has nothing but waiting left."""
        end = asyncio.get_running_loop().time() + limit - 1.0
        follower = asyncio.create_task(self._follow(say))
        try:
            await self._systemctl("kill", "--signal=SIGUSR1", "--kill-whom=main", UNIT)
            plan = await self._plan(end)
            while plan.steps and asyncio.get_running_loop().time() + self._look < end:
                say.progress(f"{len(plan.steps)} steps are left")
                await asyncio.sleep(self._look)
                plan = await self._plan(end)
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
        result = {"settled": plan.settled, "steps": len(plan.steps)}
        if plan.steps:
            return End(Outcome.FAILED, f"{len(plan.steps)} steps are left at the deadline", result)
        return End(Outcome.OK, "converged" if plan.settled else "nothing to do now, but it waits: see plan", result)

    async def _follow(self, say: Say) -> None:
        argv = (*self._programs.journalctl, "--no-pager", "--quiet", "--output=cat", f"--unit={UNIT}", "--lines=0")
        try:
            async for part in lines((*argv, "--follow")):
                say.output(part, "journal")
        except ProviderError as error:
            say.progress(f"its journal can't be followed: {error}")

    async def _plan(self, end: float) -> Plan:
        limit = max(1.0, end - asyncio.get_running_loop().time())
        ran = await run((*self._programs.protokube, "--dry-run", "-o", "json"), limit)
        try:
            return msgspec.json.decode(ran.output, type=Plan)
        except msgspec.MsgspecError as error:
            raise ProviderError(
                f"protokube --dry-run: exit code {ran.code}, and no report: {error}; {ran.errors[-1000:]}"
            ) from error

    # --- hold ---

    async def hold(self, order: Order, _say: Say, _limit: float) -> End:
        """Stop protokube, and mask it at run time. The note comes first: cut off anywhere, the hold still ends."""
        asked = order.arguments
        assert isinstance(asked, Hold)
        held = Held(order.body.id, asked.reason, self._boot, self._boot_time() + asked.minutes * 60.0)
        await asyncio.to_thread(self._write, held)
        await self._systemctl("mask", "--runtime", UNIT)
        await self._systemctl("stop", UNIT)
        self._told()
        return End(Outcome.OK, f"held for {asked.minutes} min: {asked.reason}")

    async def release(self, _order: Order, _say: Say, _limit: float) -> End:
        """End a hold."""
        if await asyncio.to_thread(self.held) is None:
            return End(Outcome.OK, "it wasn't held")
        await self._release()
        return End(Outcome.OK, "released")

    def held(self) -> Held | None:
        """The hold, None when there is none. Raises ProviderError for a note that can't be read."""
        with explain(f"read {self._path}"):
            try:
                data = self._path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            return msgspec.json.decode(data, type=Held)
        except msgspec.MsgspecError as error:
            raise ProviderError(f"{self._path}: {error}; start {UNIT} by hand, then remove the file") from error

    async def watch(self) -> None:
        """End holds whose time is over, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._look)

    async def wait_out(self) -> None:
        """Wait until there is no hold, or none that can be read, ending it in time."""
        while await self.look():
            await asyncio.sleep(self._look)

    async def look(self) -> bool:
        """End a hold whose time is over; whether there is one that has to be ended later."""
        try:
            held = await asyncio.to_thread(self.held)
        except ProviderError as error:
            log.error("hold: %s", error)
            return False
        try:
            ended = None if held is None else hold_ended(held, self._boot, self._boot_time())
            if ended is not None:
                log.info("the hold ends: %s", ended)
                await self._release()
                return False
        except ProviderError as error:
            log.error("hold: %s", error)
        return held is not None

    async def _release(self) -> None:
        await self._systemctl("unmask", "--runtime", UNIT)
        await self._systemctl("start", "--no-block", UNIT)
        await asyncio.to_thread(self._remove)
        self._told()

    def _write(self, held: Held) -> None:
        with explain(f"write {self._path}"):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self._path, msgspec.json.encode(held))

    def _remove(self) -> None:
        with explain(f"remove {self._path}"):
            remove(self._path)

    async def _systemctl(self, *arguments: str) -> None:
        ran = await run((*self._programs.systemctl, *arguments), LIMIT)
        if ran.code != 0:
            raise ProviderError(f"systemctl {' '.join(arguments)}: exit code {ran.code}: {ran.errors}")
