"""What is done to files and units."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from protokube.core.model import Facet
from protokube.core.node.model import OnVolume


class _FileAction(Struct, frozen=True):
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.FILES, Facet.TREES})
    path: str

    @property
    def subject(self) -> str:
        """The path, without the root prefix."""
        return self.path


class MakeDirectory(_FileAction, frozen=True):
    """Make a directory and the missing ones above it."""

    kind: ClassVar[str] = "make-directory"
    mode: int = 0o755
    volume: OnVolume | None = None

    def describe(self) -> str:
        """One line for people."""
        return f"make directory {self.path}"


class WriteFile(_FileAction, frozen=True):
    """Replace a file's content atomically; missing directories above it are made."""

    kind: ClassVar[str] = "write-file"
    content: str = ""
    mode: int = 0o644
    volume: OnVolume | None = None

    def describe(self) -> str:
        """One line for people."""
        return f"write {self.path} ({len(self.content.encode())} bytes)"


class MakeLink(_FileAction, frozen=True):
    """Put a fresh symbolic link at `path`, renamed over what link stood there. `target` is absolute, without
    the root prefix; on disk the link is relative, so that it holds inside and outside of the root."""

    kind: ClassVar[str] = "link"
    target: str = ""

    def describe(self) -> str:
        """One line for people."""
        return f"link {self.path} → {self.target}"


class Unlink(_FileAction, frozen=True):
    """Remove a symbolic link; anything that isn't a link is left alone."""

    kind: ClassVar[str] = "unlink"

    def describe(self) -> str:
        """One line for people."""
        return f"unlink {self.path}"


class _UnitAction(Struct, frozen=True):
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.UNIT})
    unit: str

    @property
    def subject(self) -> str:
        """The unit's name."""
        return self.unit


class StartUnit(_UnitAction, frozen=True):
    """Start a systemd unit."""

    kind: ClassVar[str] = "start-unit"

    def describe(self) -> str:
        """One line for people."""
        return f"start {self.unit}"


class RestartUnit(_UnitAction, frozen=True):
    """Restart a systemd unit."""

    kind: ClassVar[str] = "restart-unit"

    def describe(self) -> str:
        """One line for people."""
        return f"restart {self.unit}"


FileAction = MakeDirectory | WriteFile | MakeLink | Unlink
