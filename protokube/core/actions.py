"""Everything that protokube ever does to the world, as values.

A closed union: there is no action that detaches, unmounts or deletes a volume, so none can be planned by
mistake. Each action names its `subject` (one action per subject and pass) and the facets of the world that
it changes; logs, dry run, tests and the report read the same values.
"""

from __future__ import annotations

from typing import ClassVar

from protokube.core.dns import OWN, RecordChange
from protokube.core.model import DiskIdentity, Facet, Intent
from protokube.core.value import dataclass

KNOWN_AFTER_ATTACH = "(known after attach)"


@dataclass(frozen=True)
class AttachVolume:
    """Ask the cloud to attach a volume under a device name. Returns at once; attaching is observed."""

    kind: ClassVar[str] = "attach-volume"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.VOLUMES, Facet.INSTANCE, Facet.PEERS})
    volume_id: str
    device: str | None

    @property
    def subject(self) -> str:
        """The volume's id."""
        return self.volume_id

    def describe(self) -> str:
        """One line for people."""
        name = f" as {self.device}" if self.device else ""
        return f"attach {self.volume_id}{name} (device known after attach)"


@dataclass(frozen=True)
class _DiskAction:
    """What every action on an unmounted disk needs to prove its ground again under the disk's lock."""

    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.DISKS})
    volume_id: str
    device: str
    number: tuple[int, int]
    size: int
    identity: DiskIdentity

    @property
    def subject(self) -> str:
        """The volume's id."""
        return self.volume_id


@dataclass(frozen=True)
class FormatVolume(_DiskAction):
    """Make an ext4 filesystem on a disk that is proven blank, again, right before. Started, not awaited."""

    kind: ClassVar[str] = "format-volume"
    intent: Intent
    label: str

    def describe(self) -> str:
        """One line for people."""
        again = "format (ext4, proven blank)"
        return f"{again} {self.volume_id} on {self.device}, UUID {self.intent.uuid}, label {self.label}"


@dataclass(frozen=True)
class CheckFilesystem(_DiskAction):
    """Run e2fsck -p on an unmounted filesystem. Started, not awaited."""

    kind: ClassVar[str] = "check-filesystem"
    uuid: str

    def describe(self) -> str:
        """One line for people."""
        return f"check the filesystem of {self.volume_id} on {self.device} (e2fsck -p)"


@dataclass(frozen=True)
class GrowFilesystem(_DiskAction):
    """Grow an unmounted, checked filesystem to its disk's size. Started, not awaited."""

    kind: ClassVar[str] = "grow-filesystem"
    uuid: str

    def describe(self) -> str:
        """One line for people."""
        return f"grow the filesystem of {self.volume_id} on {self.device} to {self.size} bytes"


@dataclass(frozen=True)
class MountVolume(_DiskAction):
    """Mount a volume's filesystem. `target` is without the root prefix."""

    kind: ClassVar[str] = "mount-volume"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.DISKS, Facet.MOUNTS, Facet.TREES, Facet.FILES})
    uuid: str
    target: str

    def describe(self) -> str:
        """One line for people."""
        return f"mount {self.volume_id} from {self.device} at {self.target}"


@dataclass(frozen=True)
class TagVolume:
    """Write one of our own tags onto a volume."""

    kind: ClassVar[str] = "tag-volume"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.VOLUMES})
    volume_id: str
    key: str
    value: str

    @property
    def subject(self) -> str:
        """The volume's id and the tag: two tags of one volume may be written side by side."""
        return f"{self.volume_id}:{self.key}"

    def describe(self) -> str:
        """One line for people."""
        return f"tag {self.volume_id} {self.key}={self.value}"


@dataclass(frozen=True)
class AnnounceAddresses:
    """Let the other nodes know where this one is, on a cloud that doesn't know it by itself."""

    kind: ClassVar[str] = "announce-addresses"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.PEERS})
    instance: str
    internal: tuple[str, ...]
    external: tuple[str, ...]

    @property
    def subject(self) -> str:
        """The instance's id."""
        return self.instance

    def describe(self) -> str:
        """One line for people."""
        return f"announce that {self.instance} is at {', '.join((*self.internal, *self.external)) or 'no address'}"


@dataclass(frozen=True)
class OnVolume:
    """Says that a path lies on a mounted volume: the mount point and its device's (major, minor).

    Whoever writes there checks that this very device is mounted and follows no symbolic link below it.
    """

    target: str
    number: tuple[int, int]


@dataclass(frozen=True)
class _FileAction:
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.FILES, Facet.TREES})
    path: str

    @property
    def subject(self) -> str:
        """The path, without the root prefix."""
        return self.path


@dataclass(frozen=True)
class MakeDirectory(_FileAction):
    """Make a directory and the missing ones above it."""

    kind: ClassVar[str] = "make-directory"
    mode: int = 0o755
    volume: OnVolume | None = None

    def describe(self) -> str:
        """One line for people."""
        return f"make directory {self.path}"


@dataclass(frozen=True)
class WriteFile(_FileAction):
    """Replace a file's content atomically; missing directories above it are made."""

    kind: ClassVar[str] = "write-file"
    content: str = ""
    mode: int = 0o644
    volume: OnVolume | None = None

    def describe(self) -> str:
        """One line for people."""
        return f"write {self.path} ({len(self.content.encode())} bytes)"


@dataclass(frozen=True)
class MakeLink(_FileAction):
    """Put a fresh symbolic link at `path`, renamed over what link stood there. `target` is absolute, without
    the root prefix; on disk the link is relative, so that it holds inside and outside of the root."""

    kind: ClassVar[str] = "link"
    target: str = ""

    def describe(self) -> str:
        """One line for people."""
        return f"link {self.path} → {self.target}"


@dataclass(frozen=True)
class Unlink(_FileAction):
    """Remove a symbolic link; anything that isn't a link is left alone."""

    kind: ClassVar[str] = "unlink"

    def describe(self) -> str:
        """One line for people."""
        return f"unlink {self.path}"


@dataclass(frozen=True)
class ChangeRecords:
    """One batch of DNS changes that belong together. `batch` is OWN or REMOVALS."""

    kind: ClassVar[str] = "change-records"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.RECORDS})
    batch: str
    records: tuple[RecordChange, ...]

    @property
    def subject(self) -> str:
        """The record's name, or the batch's when there are several; what others left is always a subject of its own,
        beside this node's record of the same name."""
        names = sorted({change.name for change in self.records})
        return names[0] if len(names) == 1 and self.batch == OWN else self.batch

    def describe(self) -> str:
        """One line per record for people, the first one on the same line."""
        return "; ".join(change.describe() for change in self.records)


@dataclass(frozen=True)
class _UnitAction:
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.UNIT})
    unit: str

    @property
    def subject(self) -> str:
        """The unit's name."""
        return self.unit


@dataclass(frozen=True)
class StartUnit(_UnitAction):
    """Start a systemd unit."""

    kind: ClassVar[str] = "start-unit"

    def describe(self) -> str:
        """One line for people."""
        return f"start {self.unit}"


@dataclass(frozen=True)
class RestartUnit(_UnitAction):
    """Restart a systemd unit."""

    kind: ClassVar[str] = "restart-unit"

    def describe(self) -> str:
        """One line for people."""
        return f"restart {self.unit}"


DiskAction = FormatVolume | CheckFilesystem | GrowFilesystem | MountVolume
FileAction = MakeDirectory | WriteFile | MakeLink | Unlink
CloudAction = AttachVolume | TagVolume | AnnounceAddresses
Action = CloudAction | DiskAction | FileAction | ChangeRecords | StartUnit | RestartUnit
