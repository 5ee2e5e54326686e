"""The values that the whole program speaks in: what was configured, and what was observed.

Everything here is immutable. A part of the world that could not be read is `Unknown`, which is never the
same as empty. Sizes are bytes, times are seconds since the epoch, paths are absolute and without the
`--root` prefix unless a field says otherwise.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


class Fault(Struct, frozen=True):
    """Something wrong in the input: `place` says where, `message` the value and what was expected."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class Unknown(Struct, frozen=True):
    """A part of the world that could not be read, and why."""

    reason: str


class Unread(Unknown, frozen=True):
    """A part of the world that is being read, so that it will be known without another action."""


class Facet(StrEnum):
    """The parts of the world that are read separately."""

    INSTANCE = "instance"
    VOLUMES = "volumes"
    PEERS = "peers"
    MOUNTS = "mounts"
    DISKS = "disks"
    TREES = "trees"
    FILES = "files"
    MEMBERS = "members"
    RECORDS = "records"
    UNIT = "unit"


# --- the cloud -------------------------------------------------------------------------------------


# --- disks and mounts ------------------------------------------------------------------------------


# --- files, units, etcd ----------------------------------------------------------------------------


# --- etcd members ----------------------------------------------------------------------------------


class Rejected(Struct, frozen=True):
    """A volume, or a tag of it, that is not taken. `rule` is a stable id that people can search for."""

    rule: str
    evidence: str
