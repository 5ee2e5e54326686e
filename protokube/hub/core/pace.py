"""How much a node takes from its hub: enough for every operator's day, and too little to fill its disk or memory."""

from __future__ import annotations

from msgspec import Struct

from protokube.core.model import MIB

WINDOW, COMMANDS, BYTES = 600.0, 1000, 4 * MIB
"""In so many seconds a node takes that many commands, and bytes of them, at most."""
UNHEARD = 64 * MIB
"""Bytes of events that the hub hasn't acknowledged, with which nothing more is taken."""


class Pace(Struct, frozen=True):
    """What was taken since the window began (seconds of a steady clock)."""

    since: float = 0.0
    commands: int = 0
    size: int = 0


def paced(pace: Pace, now: float, size: int, unheard: int, *, full: bool = False) -> Pace | str:
    """The pace with one more command of `size` bytes, or why it isn't taken. `full`: no record of it has room."""
    if full:
        return "the record of commands is full of what runs, is unknown, or may be sent again; send it again later"
    if unheard >= UNHEARD:
        return f"{unheard} bytes of events wait for the hub to acknowledge them; at most {UNHEARD} were expected"
    before = pace if now - pace.since < WINDOW else Pace(now)
    after = Pace(before.since, before.commands + 1, before.size + size)
    if after.commands > COMMANDS or after.size > BYTES:
        return f"at most {COMMANDS} commands and {BYTES} bytes were expected in {WINDOW:.0f} s; send it again later"
    return after
