"""Files, links, units and mounts of a machine, as they were read."""

from __future__ import annotations

from msgspec import Struct


class File(Struct, frozen=True):
    """A regular file. `text` is None when it isn't UTF-8 or is larger than we ever write."""

    text: str | None
    mode: int
    mtime_ns: int


class Link(Struct, frozen=True):
    """A symbolic link with its target as written; nobody looks where it leads, which may be a disk that hangs."""

    target: str
    mtime_ns: int


class Directory(Struct, frozen=True):
    """A directory."""

    mode: int


class Absent(Struct, frozen=True):
    """Nothing stands at the path."""


class OtherFile(Struct, frozen=True):
    """A socket, device or pipe: never written to."""

    kind: str


FileState = File | Link | Directory | Absent | OtherFile


class UnitState(Struct, frozen=True):
    """A systemd unit, in systemd's words.

    `started_at` is when its main process was started (seconds since the epoch), None if it never was.
    """

    load: str
    active: str
    sub: str
    started_at: float | None = None
    restarts: int = 0


class OnVolume(Struct, frozen=True):
    """Says that a path lies on a mounted volume: the mount point and its device's (major, minor).

    Whoever writes there checks that this very device is mounted and follows no symbolic link below it.
    """

    target: str
    number: tuple[int, int]
