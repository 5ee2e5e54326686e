"""The loop's sleep: what ends it, and what the reasons mean for the reconcile that follows."""

from __future__ import annotations

import asyncio
import contextlib
import time

from protokube.alarm import Alarm
from protokube.reconcile import Cause

_BURST, _BURSTS = 0.005, 10
"""Seconds without an event that end a burst, and how many times a burst is prolonged at most."""
_SHOWN = 4
"""Reasons that the log shows of those that woke."""


class Sleep:
    """The loop's sleep, which an alarm ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop, alarm: Alarm) -> None:
        self._alarm = alarm
        self._event = asyncio.Event()
        alarm.listen(lambda: loop.call_soon_threadsafe(self._event.set))

    async def until_rung(self, seconds: float, calm: float = 0.0) -> list[str]:
        """Sleep until an event, at most for so long. The reasons that woke; empty when the time ran out.

        Events come in bursts (two disks are ready within moments): a few more milliseconds of sleep save a reconcile,
        and let both disks go on together. For the first `calm` seconds only a person's signal ends the sleep: after
        trouble, events of the node must not cause another try at once.
        """
        reasons = await self._collected(calm)
        if not reasons:
            reasons = await self._wait(seconds - calm)
            for _ in range(_BURSTS if reasons else 0):
                if not (more := await self._wait(_BURST)):
                    break
                reasons += more
        return sorted(dict.fromkeys(reasons), key=_rank)

    async def _collected(self, seconds: float) -> list[str]:
        reasons: list[str] = []
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not any(map(_is_signal, reasons)):
            reasons += await self._wait(left)
        return reasons

    async def _wait(self, seconds: float) -> list[str]:
        # wait_for would swallow a cancellation that comes together with the event (Python 3.11).
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        if not self._event.is_set():
            return []
        self._event.clear()
        return self._alarm.take()


def cause_of(reasons: list[str]) -> Cause:
    """The cause of the reconcile that the loop woke for: a person counts for more than events."""
    if not reasons:
        return Cause.CLOCK
    if any(map(_is_signal, reasons)):
        return Cause.PERSON
    # The cloud tells this machine's addresses.
    return Cause.CLOCK if any(reason.startswith("addresses") for reason in reasons) else Cause.NODE


def shown(reasons: list[str]) -> str:
    """The first few of the reasons that woke, for the log."""
    more = f" and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return ", ".join(reasons[:_SHOWN]) + more


def _is_signal(reason: str) -> bool:
    """Whether a person has asked for a reconcile that reads everything."""
    return reason.startswith("SIG")


def _rank(reason: str) -> int:
    """Reasons that tell most come first, since only the first few are shown: a person's signal, what isn't about a
    file (addresses, units, tools), devices, other files."""
    if _is_signal(reason):
        return 0
    return 1 if not reason.startswith("/") else 2 if reason.startswith("/dev/") else 3
