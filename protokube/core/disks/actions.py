"""The actions on a volume's disk."""

from __future__ import annotations

from typing import ClassVar, Protocol

from msgspec.structs import replace

from protokube.core.action import ActionValue, Facet
from protokube.core.disks.model import Ext4, Intent, Mounted, StorageFacts, VolumeContents
from protokube.core.model import Unknown
from protokube.core.node.model import Mount
from protokube.core.volumes.model import DiskIdentity


class DiskWriter(Protocol):
    """Executes disk actions. Format, check and grow are started, not awaited, and never killed."""

    def format(self, action: FormatVolume) -> None:
        """Prove blankness under the disk's lock, then mkfs.ext4."""

    def check(self, action: CheckFilesystem) -> None:
        """Run e2fsck -p under the disk's lock."""

    def grow(self, action: GrowFilesystem) -> None:
        """Run resize2fs under the disk's lock."""

    def mount(self, action: MountVolume) -> None:
        """Mount the disk, after checking again that it is this disk with this filesystem."""

    def take_back(self, action: TakeBackFirstStart) -> None:
        """Put a log without entries aside, if no process holds it."""


class DiskAction(ActionValue, frozen=True):
    """The base of all actions on an unmounted disk: the facts that are proven again under the disk lock."""

    port: ClassVar[str] = "disks"
    facts: ClassVar[str] = "storage"
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


class FormatVolume(DiskAction, frozen=True, tag="format-volume"):
    """Make an ext4 filesystem on a disk that is proven blank once more right before. Started, not awaited."""

    intent: Intent
    label: str

    def describe(self) -> str:
        """One line for people."""
        what = "format (ext4, proven blank)"
        return f"{what} {self.volume_id} on {self.device}, UUID {self.intent.uuid}, label {self.label}"

    def predict(self, facts: StorageFacts, now: float) -> StorageFacts:
        """The disk has an empty filesystem that was never mounted."""
        contents = VolumeContents(frozenset({"lost+found/"}), uuid=self.intent.uuid)
        made = Ext4(self.intent.uuid, self.label, self.size, used=False, checked=False, contents=contents)
        return facts.with_content(self.volume_id, made)

    def execute(self, port: DiskWriter) -> None:
        """Start it."""
        port.format(self)


class CheckFilesystem(DiskAction, frozen=True, tag="check-filesystem"):
    """Run e2fsck -p on an unmounted filesystem. Started, not awaited."""

    uuid: str

    def describe(self) -> str:
        """One line for people."""
        return f"check the filesystem of {self.volume_id} on {self.device} (e2fsck -p)"

    def predict(self, facts: StorageFacts, now: float) -> StorageFacts:
        """The filesystem passed, and its journal is replayed."""
        passed = replace(facts.ext4(self.volume_id), checked=True, needs_recovery=False)
        return facts.with_content(self.volume_id, passed)

    def execute(self, port: DiskWriter) -> None:
        """Start it."""
        port.check(self)


class GrowFilesystem(DiskAction, frozen=True, tag="grow-filesystem"):
    """Grow an unmounted, checked filesystem to its disk's size. Started, not awaited."""

    uuid: str

    def describe(self) -> str:
        """One line for people."""
        return f"grow the filesystem of {self.volume_id} on {self.device} to {self.size} bytes"

    def predict(self, facts: StorageFacts, now: float) -> StorageFacts:
        """The filesystem has the disk's size."""
        return facts.with_content(self.volume_id, replace(facts.ext4(self.volume_id), size=self.size))

    def execute(self, port: DiskWriter) -> None:
        """Start it."""
        port.grow(self)


class MountVolume(DiskAction, frozen=True, tag="mount-volume"):
    """Mount a volume's filesystem. `target` is without the root prefix."""

    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.DISKS, Facet.MOUNTS, Facet.CONTENTS, Facet.FILES})
    uuid: str
    target: str

    def describe(self) -> str:
        """One line for people."""
        return f"mount {self.volume_id} from {self.device} at {self.target}"

    def predict(self, facts: StorageFacts, now: float) -> StorageFacts:
        """The volume is mounted, and its contents are the ones that were read before."""
        read = facts.ext4(self.volume_id).contents
        contents = replace(read if isinstance(read, VolumeContents) else VolumeContents(), uuid=self.uuid)
        mounts = () if isinstance(facts.mounts, Unknown) else facts.mounts
        return replace(
            facts.with_content(self.volume_id, Mounted()),
            mounts=(*mounts, Mount(self.target, self.number, "ext4", read_only=False)),
            contents={**facts.contents, self.volume_id: contents},
        )

    def execute(self, port: DiskWriter) -> None:
        """Mount it."""
        port.mount(self)


class TakeBackFirstStart(ActionValue, frozen=True, tag="take-back-first-start"):
    """Put etcd's log aside that has no entry, on a mounted volume, while no etcd holds it."""

    port: ClassVar[str] = "disks"
    facts: ClassVar[str] = "storage"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.CONTENTS})
    volume_id: str
    target: str
    number: tuple[int, int]
    data_dir: str

    @property
    def subject(self) -> str:
        """The volume's id."""
        return self.volume_id

    def describe(self) -> str:
        """One line for people."""
        return f"put etcd's empty log in {self.target}/{self.data_dir} aside"

    def predict(self, facts: StorageFacts, now: float) -> StorageFacts:
        """The log is gone."""
        seen = facts.contents[self.volume_id]
        assert isinstance(seen, VolumeContents)
        left = {one: held for one, held in seen.cut_off.items() if one != self.data_dir}
        return replace(facts, contents={**facts.contents, self.volume_id: replace(seen, cut_off=left)})

    def execute(self, port: DiskWriter) -> None:
        """Put it aside."""
        port.take_back(self)
