"""Connections that show no certificate of the hub's: they may ask, and not stay, nor fill up the hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

MOST = 256
"""So many at once; of more the oldest are closed."""
PATIENCE = 30.0
"""Seconds that one may be open: an enrolment takes one or two."""
LOOK = 0.5
"""Seconds between looks."""


class Strangers:
    """Knows since when each is open. Times in seconds."""

    def __init__(self) -> None:
        self._since: dict[asyncio.Transport, float] = {}

    def sweep(self, connections: Iterable[asyncio.Transport], now: float) -> None:
        """Close those that are open for too long, or too many; `connections`: all there are, the oldest first."""
        # What OpenSSL couldn't prove to be of the hub's authority never gets here: the handshake fails.
        strange = [one for one in connections if not one.get_extra_info("peercert")]
        self._since = {one: self._since.get(one, now) for one in strange}
        for place, one in enumerate(strange):
            if place < len(strange) - MOST or now - self._since[one] >= PATIENCE:
                one.abort()  # one that reads nothing would keep an orderly end waiting


async def sweeping(connections: Callable[[], Iterable[asyncio.Transport]]) -> None:
    """Look at them until cancelled."""
    strangers, clock = Strangers(), asyncio.get_running_loop().time
    while True:
        strangers.sweep(connections(), clock())
        await asyncio.sleep(LOOK)
