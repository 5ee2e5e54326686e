"""Which of a node's records may go: they stay for a month, unless a hub sends so much that the disk would fill up."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from protokube.core.model import MIB
from protokube.hub.core.membership import LEEWAY

KEPT_SECONDS, KEPT_COMMANDS = 30 * 86400.0, 1000
"""A node keeps ids so long, and at least so many."""
MOST_COMMANDS, MOST_BYTES = 20_000, 64 * MIB
"""So many records, and bytes of them, are all that a node keeps. The pace of an hour is half of either."""
_LOW = 0.75
"""What is left of the most, once room is made: the next time is far."""


class Entry(Struct, frozen=True):
    """A record as it counts here. `age`: seconds since it was taken; `size` in bytes.

    `unknown`: it ended, and people have to see how. `deadline`: by the hub's clock, 0 of one that was refused.
    """

    age: float
    size: int
    ended: bool
    unknown: bool
    deadline: float


def outlived(entries: Sequence[Entry]) -> set[int]:
    """The places of records that ended and are too old; `entries`: oldest first."""
    older = entries[: max(0, len(entries) - KEPT_COMMANDS)]
    return {place for place, one in enumerate(older) if one.ended and one.age > KEPT_SECONDS}


def too_many(count: int, size: int) -> bool:
    """Whether nothing more is kept until room is made."""
    return count >= MOST_COMMANDS or size >= MOST_BYTES


def making_room(entries: Sequence[Entry], now: float) -> set[int]:
    """The places of records that make room, oldest first. `now` by the hub's clock.

    Never one that runs, nor one whose end is unknown, nor one that would be run again if the hub sent it again: until
    its deadline only its record keeps it from that.
    """
    gone = outlived(entries)
    count = len(entries) - len(gone)
    size = sum(one.size for place, one in enumerate(entries) if place not in gone)
    for place, one in enumerate(entries):
        if count <= MOST_COMMANDS * _LOW and size <= MOST_BYTES * _LOW:
            break
        if place not in gone and one.ended and not one.unknown and now >= one.deadline + LEEWAY:
            gone.add(place)
            count, size = count - 1, size - one.size
    return gone
