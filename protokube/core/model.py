"""The values that every concern shares: faults, refusals, unknown parts, and the moment of a snapshot.

Everything here is immutable. A part of the world that could not be read is `Unknown`, which is never the same as
empty. Sizes are bytes, times are seconds since the epoch, paths are absolute and without the `--root` prefix unless
a field says otherwise.
"""

from __future__ import annotations

from msgspec import Struct

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


class Fault(Struct, frozen=True):
    """A fault in the input: `place` says where, `message` gives the value and the expected one."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class Rejected(Struct, frozen=True, tag=True):
    """A refusal, with its evidence. `rule` is a stable id that people can search for. `final`: no operator may
    overrule it."""

    rule: str
    evidence: str
    final: bool = False


class Unknown(Struct, frozen=True, tag=True):
    """A part of the world that could not be read, and why."""

    reason: str


class Unread(Unknown, frozen=True, tag=True):
    """A part of the world that is still being read: it will be known without another action."""


class Moment(Struct, frozen=True):
    """When a snapshot was taken: `now` since the epoch, `uptime` since the program started; both in seconds.

    Durations are measured by `uptime` alone: the clock may be set at any time after boot.
    """

    now: float
    uptime: float
