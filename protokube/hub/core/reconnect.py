"""The pauses between two tries to reach the hub: full jitter, so that a fleet doesn't come back all at once."""

from __future__ import annotations

from msgspec import Struct

FIRST, LONGEST = 1.0, 60.0
STEADY = 60.0
"""Seconds of link after which the earlier failures are forgotten."""
GIVEN_UP = 600.0
"""Seconds without a link after which the program ends (75), so that systemd starts a fresh one."""


class Tries(Struct, frozen=True):
    """How often in a row a link couldn't be made or was lost early."""

    failures: int = 0


def lost(tries: Tries, lasted: float) -> Tries:
    """The tries after a link that lasted so many seconds (0: it was never made)."""
    return Tries(1 if lasted >= STEADY else tries.failures + 1)


def pause(tries: Tries, fraction: float) -> float:
    """Seconds before the next try: anything up to 1, 2, 4, … 60 s, by a random `fraction` (0 to 1)."""
    if tries.failures == 0:
        return 0.0
    return fraction * min(LONGEST, FIRST * 2.0 ** min(tries.failures - 1, 16))
