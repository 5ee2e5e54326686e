"""The actions on files and units."""

from __future__ import annotations

from typing import ClassVar, Protocol, Self, TypeVar

from protokube.core.action import ActionValue, Facet
from protokube.core.node.model import Absent, Directory, File, FileState, Link, OnVolume, UnitState


class FileWriter(Protocol):
    """Executes file actions. Every write is atomic, and on disk when the call returns."""

    def make_directory(self, action: MakeDirectory) -> None:
        """Make a directory."""

    def write(self, action: WriteFile) -> None:
        """Write beside, fsync, rename, fsync the directory."""

    def link(self, action: MakeLink) -> None:
        """Put a fresh relative link, renamed over the old one."""

    def unlink(self, action: Unlink) -> None:
        """Remove a link; an absent one is no error."""

    def remove(self, action: RemoveFile) -> None:
        """Remove a regular file; an absent one is no error."""


class UnitStarter(Protocol):
    """Executes unit actions."""

    def start(self, unit: str) -> None:
        """Start a unit."""

    def restart(self, unit: str) -> None:
        """Restart a unit, reloading the manager first when the unit's file has changed."""


class FileFacts(Protocol):
    """Facts in which a file can appear: the machine's own, or those of its volumes."""

    def with_file(self, path: str, state: FileState) -> Self:
        """The facts with another state of a path."""


Facts = TypeVar("Facts", bound=FileFacts)


class FileAction(ActionValue, frozen=True):
    """The base of all file actions. `volume` is given for a path on a mounted volume."""

    port: ClassVar[str] = "files"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.FILES, Facet.CONTENTS})
    path: str

    @property
    def subject(self) -> str:
        """The path, without the root prefix."""
        return self.path

    @property
    def facts(self) -> str:
        """The machine's own files, unless the path lies on a volume."""
        return "storage" if getattr(self, "volume", None) else "node"


class MakeDirectory(FileAction, frozen=True, tag="make-directory"):
    """Make a directory and the missing ones above it."""

    mode: int = 0o755
    volume: OnVolume | None = None

    def describe(self) -> str:
        """One line for people."""
        return f"make directory {self.path}"

    def predict(self, facts: Facts, now: float) -> Facts:
        """The directory is there."""
        return facts.with_file(self.path, Directory(self.mode))

    def execute(self, port: FileWriter) -> None:
        """Make it."""
        port.make_directory(self)


class WriteFile(FileAction, frozen=True, tag="write-file"):
    """Replace a file's content atomically; missing directories above it are made.

    `before` is the text that it replaces, where people should see the difference.
    """

    content: str = ""
    mode: int = 0o644
    volume: OnVolume | None = None
    before: str | None = None

    def describe(self) -> str:
        """One line for people."""
        return f"write {self.path} ({len(self.content.encode())} bytes)"

    def predict(self, facts: Facts, now: float) -> Facts:
        """The file has the content, written now."""
        return facts.with_file(self.path, File(self.content, self.mode, int(now * 1e9)))

    def execute(self, port: FileWriter) -> None:
        """Write it."""
        port.write(self)


class MakeLink(FileAction, frozen=True, tag="link"):
    """Put a fresh symbolic link at `path`, renamed over an older link.

    `target` is absolute, without the root prefix. On disk the link is relative, so that it leads to the same file
    inside and outside of the root.
    """

    target: str = ""

    def describe(self) -> str:
        """One line for people."""
        return f"link {self.path} → {self.target}"

    def predict(self, facts: Facts, now: float) -> Facts:
        """The link is there, made now."""
        return facts.with_file(self.path, Link(self.target, int(now * 1e9)))

    def execute(self, port: FileWriter) -> None:
        """Make it."""
        port.link(self)


class Unlink(FileAction, frozen=True, tag="unlink"):
    """Remove a symbolic link; anything that isn't a link is left alone."""

    def describe(self) -> str:
        """One line for people."""
        return f"unlink {self.path}"

    def predict(self, facts: Facts, now: float) -> Facts:
        """Nothing stands there."""
        return facts.with_file(self.path, Absent())

    def execute(self, port: FileWriter) -> None:
        """Remove it."""
        port.unlink(self)


class RemoveFile(FileAction, frozen=True, tag="remove-file"):
    """Remove a regular file; anything else is left alone."""

    def describe(self) -> str:
        """One line for people."""
        return f"remove {self.path}"

    def predict(self, facts: Facts, now: float) -> Facts:
        """Nothing stands there."""
        return facts.with_file(self.path, Absent())

    def execute(self, port: FileWriter) -> None:
        """Remove it."""
        port.remove(self)


class UnitFacts(Protocol):
    """Facts in which a unit can appear."""

    def with_unit(self, unit: str, state: UnitState) -> Self:
        """The facts with another state of a unit."""


OfUnits = TypeVar("OfUnits", bound=UnitFacts)


class UnitAction(ActionValue, frozen=True):
    """The base of all unit actions."""

    port: ClassVar[str] = "services"
    facts: ClassVar[str] = "node"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.UNIT})
    unit: str

    @property
    def subject(self) -> str:
        """The unit's name."""
        return self.unit

    def predict(self, facts: OfUnits, now: float) -> OfUnits:
        """The unit runs from now on."""
        return facts.with_unit(self.unit, UnitState("loaded", "active", "running", started_at=now + 1))


class StartUnit(UnitAction, frozen=True, tag="start-unit"):
    """Start a systemd unit."""

    def describe(self) -> str:
        """One line for people."""
        return f"start {self.unit}"

    def execute(self, port: UnitStarter) -> None:
        """Start it."""
        port.start(self.unit)


class RestartUnit(UnitAction, frozen=True, tag="restart-unit"):
    """Restart a systemd unit."""

    def describe(self) -> str:
        """One line for people."""
        return f"restart {self.unit}"

    def execute(self, port: UnitStarter) -> None:
        """Restart it."""
        port.restart(self.unit)
