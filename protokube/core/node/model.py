"""Files, links, mounts and units of a machine, as they were read."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from protokube.core.model import Unknown


class File(Struct, frozen=True, tag=True):
    """A regular file. `text` is None when it isn't UTF-8, or is larger than any file that protokube writes."""

    text: str | None
    mode: int
    mtime_ns: int


class Link(Struct, frozen=True, tag=True):
    """A symbolic link with its target as written. It is never followed: its target may be on a disk that hangs."""

    target: str
    mtime_ns: int


class Directory(Struct, frozen=True, tag=True):
    """A directory."""

    mode: int


class Absent(Struct, frozen=True, tag=True):
    """Nothing stands at the path."""


class OtherFile(Struct, frozen=True, tag=True):
    """A socket, device or pipe: never written to."""

    kind: str


AGENT_UNIT = "virtual-kubelet.service"
"""Runs the node's pods without kubelet."""

FileState = File | Link | Directory | Absent | OtherFile


class UnitState(Struct, frozen=True, tag=True):
    """A systemd unit, in systemd's words.

    `started_at` is when its main process was started (seconds since the epoch), None if it never was.
    """

    load: str
    active: str
    sub: str
    started_at: float | None = None
    restarts: int = 0


class Mount(Struct, frozen=True):
    """One line of mountinfo. `target` is a path without the root prefix; `errors` is ext4's errors_count; `cover`
    names another mount that hides this one."""

    target: str
    number: tuple[int, int]
    fstype: str
    read_only: bool
    shutdown: bool = False
    errors: int = 0
    cover: str | None = None


class OnVolume(Struct, frozen=True):
    """The mount point that a path lies on, and its device's (major, minor).

    A writer checks that this device is mounted there, and follows no symbolic link below the mount point.
    """

    target: str
    number: tuple[int, int]


class NodeFacts(Struct, frozen=True):
    """The machine's own files and kubelet's unit.

    `files` has the paths that were asked for and every entry of the listed directories. `unit` is None when protokube
    manages no unit.
    """

    files: Mapping[str, FileState] | Unknown
    unit: UnitState | Unknown | None = None

    def with_file(self, path: str, state: FileState) -> NodeFacts:
        """The facts with another state of a path; Unknown files stay Unknown."""
        if isinstance(self.files, Unknown):
            return self
        return replace(self, files={**self.files, path: state})

    def with_unit(self, _unit: str, state: UnitState) -> NodeFacts:
        """The facts with another state of the one unit that protokube manages."""
        return replace(self, unit=state)
