"""What is done to a volume's disk."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from protokube.core.disks.model import Intent
from protokube.core.model import Facet
from protokube.core.volumes.model import DiskIdentity


class _DiskAction(Struct, frozen=True):
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


class FormatVolume(_DiskAction, frozen=True):
    """Make an ext4 filesystem on a disk that is proven blank, again, right before. Started, not awaited."""

    kind: ClassVar[str] = "format-volume"
    intent: Intent
    label: str

    def describe(self) -> str:
        """One line for people."""
        again = "format (ext4, proven blank)"
        return f"{again} {self.volume_id} on {self.device}, UUID {self.intent.uuid}, label {self.label}"


class CheckFilesystem(_DiskAction, frozen=True):
    """Run e2fsck -p on an unmounted filesystem. Started, not awaited."""

    kind: ClassVar[str] = "check-filesystem"
    uuid: str

    def describe(self) -> str:
        """One line for people."""
        return f"check the filesystem of {self.volume_id} on {self.device} (e2fsck -p)"


class GrowFilesystem(_DiskAction, frozen=True):
    """Grow an unmounted, checked filesystem to its disk's size. Started, not awaited."""

    kind: ClassVar[str] = "grow-filesystem"
    uuid: str

    def describe(self) -> str:
        """One line for people."""
        return f"grow the filesystem of {self.volume_id} on {self.device} to {self.size} bytes"


class MountVolume(_DiskAction, frozen=True):
    """Mount a volume's filesystem. `target` is without the root prefix."""

    kind: ClassVar[str] = "mount-volume"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.DISKS, Facet.MOUNTS, Facet.TREES, Facet.FILES})
    uuid: str
    target: str

    def describe(self) -> str:
        """One line for people."""
        return f"mount {self.volume_id} from {self.device} at {self.target}"


DiskAction = FormatVolume | CheckFilesystem | GrowFilesystem | MountVolume
