"""How long and how far a download may go."""

from __future__ import annotations

from msgspec import Struct

from protokube.core.model import KIB, MIB


class Limits(Struct, frozen=True):
    """Seconds, bytes and counts.

    `connect` is for looking up, connecting and TLS, each; `stall` for a wait without a byte. A mirror that stays
    below `floor` bytes a second while `window` seconds are waited is left. `cuts` is how often a mirror is asked for
    the rest after a cut. `whole` seconds are for an asset in one run, shared by its mirrors.
    `reserve` bytes of a filesystem stay free. `together` downloads run side by side.
    """

    connect: float = 10.0
    stall: float = 30.0
    window: float = 60.0
    floor: int = 10 * KIB
    redirects: int = 5
    cuts: int = 5
    whole: float = 3000.0
    reserve: int = 64 * MIB
    together: int = 4
