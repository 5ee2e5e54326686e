"""When a node renews its certificate, told by the hub's clock and boot time: nobody has to trust the node's clock."""

from __future__ import annotations

from msgspec import Struct

from protokube.hub.core.membership import LEEWAY

LIFE = 86400.0
"""Seconds that a certificate lives."""
BACKDATED = 300.0
"""Seconds that it begins before it is issued, for clocks that are late."""
SPREAD = 0.05
FIRST_RETRY, LONGEST_RETRY = 60.0, 600.0


class Heard(Struct, frozen=True):
    """The hub's clock as it was heard: its time (seconds since the epoch), and boot time at that moment."""

    hub_time: float
    boot_time: float

    def now(self, boot_time: float) -> float:
        """The hub's time at a moment of boot time."""
        return self.hub_time + boot_time - self.boot_time


class Validity(Struct, frozen=True):
    """A certificate's times, as it bears them."""

    begins: float
    ends: float

    def issued(self) -> float:
        """When it was issued."""
        return min(self.begins + BACKDATED, self.ends)


def due(validity: Validity, heard: Heard, fraction: float) -> float:
    """The boot time at which to renew: at two thirds of the life, a twentieth earlier or later by `fraction`.

    `fraction` is random, 0 to 1. The time may lie in the past: then it is due now.
    """
    life = validity.ends - validity.issued()
    spread = (2 * fraction - 1) * SPREAD
    return heard.boot_time + validity.issued() + life * (2 / 3 + spread) - heard.hub_time


def retry_pause(failures: int, fraction: float, life: float = LIFE) -> float:
    """Seconds before the next try after so many failures: 1 to 10 minutes, and never a large part of a short life.

    The lower half is certain, the upper half spread by `fraction`.
    """
    longest = min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** min(failures - 1, 16), life / 12)
    return longest * (0.5 + fraction / 2)


def believable(heard: Heard | None, kept_time: float) -> str | None:
    """Why the hub's clock isn't believed, None when it is. `kept_time`: the latest time ever heard from it.

    A hub that could turn back its clock could send old commands again, whose ids are long forgotten.
    """
    if heard is None or heard.hub_time >= kept_time - LEEWAY:
        return None
    return (
        f"the hub's clock went back by {kept_time - heard.hub_time:.0f} s; nothing is taken from it until it is right"
    )
