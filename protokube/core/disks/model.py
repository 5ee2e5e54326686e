"""Disks and their contents, as they were read, and the verdicts on them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field
from msgspec.structs import replace

from protokube.core.disks.accepted import Acceptance, Ownership
from protokube.core.disks.paths import MANIFESTS
from protokube.core.model import Unknown
from protokube.core.node.model import Directory, File, FileState, Mount, OnVolume
from protokube.core.steps import Findings
from protokube.core.volumes.model import MOUNT_PREFIX, MemberVolume


class Intent(Struct, frozen=True):
    """The record of a format in progress, kept on the disk itself until the filesystem is complete."""

    cluster_id: str
    etcd_cluster: str
    member: str
    volume_id: str
    size: int
    uuid: str


class Blank(Struct, frozen=True, tag=True):
    """A disk that is proven blank. `resumes` is the intent of an interrupted format, if one was found."""

    resumes: Intent | None = None


class Ext4(Struct, frozen=True, tag=True):
    """An ext4 filesystem on an unmounted disk.

    `size` is the filesystem's own, in bytes. `used` is False when it was never mounted. `checked`: e2fsck passed it
    and nothing was written since; `check_failed`: e2fsck's own words when it refused. `contents` were read without
    the journal: they may lead to a refusal, and never prove absence. `needs_recovery`: the journal was not replayed
    since the last use, so that the contents prove little: they may mix old and new. `damaged`: why the contents could
    not be read although the disk answered. `behind`: data behind the filesystem's end, on a disk that has room to
    grow; None when none was found.
    """

    uuid: str
    label: str
    size: int
    used: bool
    checked: bool
    contents: VolumeContents | Unknown
    check_failed: str | None = None
    needs_recovery: bool = False
    damaged: str | None = None
    behind: str | None = None


class NotBlank(Struct, frozen=True, tag=True):
    """A disk that is neither blank nor ext4: never touched. `evidence` names what was found and where."""

    evidence: str


class Mounted(Struct, frozen=True, tag=True):
    """A mounted disk: judged by its mount, never read."""


class Working(Struct, frozen=True, tag=True):
    """A disk with a tool at work on it, or under another process's disk lock. `tool` names the tool when known."""

    tool: str


DiskContent = Blank | Ext4 | NotBlank | Mounted | Working


class Disk(Struct, frozen=True, tag=True):
    """A volume's block device on this machine. `number` is (major, minor); `size` is the kernel's. `read_only` says
    that the kernel takes no write for it."""

    device: str
    number: tuple[int, int]
    size: int
    content: DiskContent
    read_only: bool = False


class NoDisk(Struct, frozen=True, tag=True):
    """No device yet for a volume that the cloud shows as attached. `hint` tells people which names were tried."""

    hint: str


class VolumeContents(Struct, frozen=True, tag=True):
    """A volume's contents as far as they concern us, read without following any symbolic link.

    `entries` are paths relative to the volume's root: all entries of the root, and of the directories that protokube
    or kops make. A directory ends in "/". `texts` are the identity file and the manifests, by path; `mtimes` are
    theirs, in nanoseconds. `overflow`: there were more entries than the reader lists. `uuid` is the filesystem's,
    from the kernel or the superblock; None when neither could be read. `others` are the entries that are neither
    directories nor regular files. `cut_off`: data directories with a log of etcd that has no entry yet, and whether a
    process holds it; only of a mounted volume.
    """

    entries: frozenset[str] = frozenset()
    texts: Mapping[str, str] = field(default_factory=dict)
    mtimes: Mapping[str, int] = field(default_factory=dict)
    overflow: bool = False
    uuid: str | None = None
    others: frozenset[str] = frozenset()
    cut_off: Mapping[str, bool] = {}

    def with_entry(self, path: str, state: FileState) -> VolumeContents:
        """The contents with a file or directory, and with the directories above it."""
        parts = path.split("/")
        above = {"/".join(parts[:depth]) + "/" for depth in range(1, len(parts))}
        entry = path + "/" if isinstance(state, Directory) else path
        contents = replace(self, entries=self.entries | above | {entry})
        if isinstance(state, File) and state.text is not None:
            texts, mtimes = {**self.texts, path: state.text}, {**self.mtimes, path: state.mtime_ns}
            contents = replace(contents, texts=texts, mtimes=mtimes)
        return contents


class StorageFacts(Struct, frozen=True):
    """Mounts, disks and volume contents.

    `disks` has an entry for each volume attached here, `contents` for each that is mounted at its mount point.
    `barred` says why nothing can be mounted, by mount point or by the directory above all of them.
    """

    mounts: tuple[Mount, ...] | Unknown = ()
    disks: Mapping[str, Disk | NoDisk | Unknown] = {}
    contents: Mapping[str, VolumeContents | Unknown] = {}
    barred: Mapping[str, str] = {}

    def with_file(self, path: str, state: FileState) -> StorageFacts:
        """The facts with a file or directory on a mounted volume; `path` begins with the mount point."""
        volume_id, _, relative = path.removeprefix(MOUNT_PREFIX).partition("/")
        contents = self.contents[volume_id]
        assert isinstance(contents, VolumeContents)
        return replace(self, contents={**self.contents, volume_id: contents.with_entry(relative, state)})

    def with_content(self, volume_id: str, content: DiskContent) -> StorageFacts:
        """The facts with other content on a volume's disk."""
        disk = self.disks[volume_id]
        assert isinstance(disk, Disk)
        return replace(self, disks={**self.disks, volume_id: replace(disk, content=content)})

    def ext4(self, volume_id: str) -> Ext4:
        """The filesystem on a volume's disk; the caller knows that there is one."""
        disk = self.disks[volume_id]
        assert isinstance(disk, Disk) and isinstance(disk.content, Ext4)
        return disk.content


class VolumeLayout(Struct, frozen=True):
    """The paths of an etcd cluster's files on a volume. `data_dir` is relative to the volume's root."""

    cluster_name: str
    data_dir: str

    @property
    def manifest_file(self) -> str:
        """The manifest's file name."""
        return f"{self.cluster_name}.manifest"

    @property
    def manifest(self) -> str:
        """The manifest's path, relative to the volume's root."""
        return f"{MANIFESTS}/{self.manifest_file}"

    def member_name(self, member: str) -> str:
        """A member's etcd name, which is also the first label of its DNS name."""
        return f"{self.cluster_name}-{member}"

    def has_data(self, contents: VolumeContents) -> bool:
        """Whether etcd ever started there: its first act is to make `member`."""
        return f"{self.data_dir}/member/" in contents.entries


class Expected(Struct, frozen=True):
    """What a member's volume is judged against: its layout, and the suffix of the members' DNS names."""

    layout: VolumeLayout
    suffix: str


class DiskSettings(Struct, frozen=True):
    """The operator's settings: whether disks may be formatted, and each etcd cluster's layout."""

    may_format: bool = True
    layouts: Mapping[str, VolumeLayout] = {}
    dns_suffix: str | None = None

    def expected(self, cluster_id: str, etcd_cluster: str) -> Expected:
        """What a volume of an etcd cluster is judged against."""
        return Expected(self.layouts[etcd_cluster], self.dns_suffix or f".internal.{cluster_id}")

    @property
    def data_dirs(self) -> frozenset[str]:
        """The data directory of every etcd cluster, relative to a volume's root."""
        return frozenset(layout.data_dir for layout in self.layouts.values())


class Todo(StrEnum):
    """The next step on a disk."""

    FORMAT = "format"
    CHECK = "check"
    GROW = "grow"
    MOUNT = "mount"


class Verdict(Struct, frozen=True):
    """The next step on an unmounted disk, and why. `intent` and `label` are those of a filesystem to be made.

    `warning`: it is taken because an operator has overruled a refusal.
    """

    volume: MemberVolume
    disk: Disk
    todo: Todo
    reason: str
    uuid: str
    intent: Intent | None = None
    label: str = ""
    warning: bool = False


class DisksAssessment(Struct, frozen=True):
    """The judgement of the disks of this machine's volumes.

    `attached` are the volumes whose attachment is complete. `mounted` are those whose own disk is mounted at their
    own mount point, `unhealthy` those of them whose mount has errors, `unread` those whose contents can't be read.
    `verdicts` are the other disks' next steps.
    `ownerships`: whose filesystem each volume has, where that could be read. `used_up`: acceptances to remove, and
    why. `cut_off`: first starts of etcd to take back, each a volume and a data directory.
    """

    attached: tuple[MemberVolume, ...] = ()
    mounted: Mapping[str, OnVolume] = {}
    unhealthy: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    verdicts: tuple[Verdict, ...] = ()
    ownerships: Mapping[str, Ownership] = {}
    used_up: tuple[tuple[Acceptance, str], ...] = ()
    cut_off: tuple[tuple[MemberVolume, str], ...] = ()
    findings: Findings = field(default_factory=Findings)
