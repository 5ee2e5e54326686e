"""Disks and what stands on them, as they were read."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from protokube.core.model import Unknown


class Intent(Struct, frozen=True):
    """The record of a format in progress, kept on the disk itself until the filesystem is complete."""

    cluster_id: str
    etcd_cluster: str
    member: str
    volume_id: str
    size: int
    uuid: str


class Blank(Struct, frozen=True):
    """Every proof of blankness held. `resumes` is the intent of an interrupted format, if there was one."""

    resumes: Intent | None = None


class Ext4(Struct, frozen=True):
    """An ext4 filesystem on an unmounted disk.

    `size` is the filesystem's own. `used` is False when it was made and never mounted. `checked` says that
    e2fsck passed it and nothing was written since; `check_failed` is e2fsck's own verdict when it refused.
    `tree` is a first look without the journal: it may only refuse, it never proves absence.
    """

    uuid: str
    label: str
    size: int
    used: bool
    checked: bool
    tree: Tree | Unknown
    check_failed: str | None = None


class NotBlank(Struct, frozen=True):
    """Neither blank nor an ext4 filesystem: never touched. `evidence` says what was found and where."""

    evidence: str


class Mounted(Struct, frozen=True):
    """The disk is mounted; it is judged by its mount, without touching it."""


class Working(Struct, frozen=True):
    """A tool is at work on the disk, or somebody else holds its lock. `tool` is the tool's name when known."""

    tool: str


DiskContent = Blank | Ext4 | NotBlank | Mounted | Working


class Disk(Struct, frozen=True):
    """A volume's block device on this machine. `number` is (major, minor); `size` is the kernel's."""

    device: str
    number: tuple[int, int]
    size: int
    content: DiskContent


class NoDisk(Struct, frozen=True):
    """The cloud says attached, the machine has no such device yet. `hint` says what was looked for, for people."""

    hint: str


class Mount(Struct, frozen=True):
    """One line of mountinfo. `target` is a path without the root prefix; `errors` is ext4's errors_count."""

    target: str
    number: tuple[int, int]
    fstype: str
    read_only: bool
    shutdown: bool = False
    errors: int = 0


class Tree(Struct, frozen=True):
    """What a volume holds, as far as it concerns us, read without following any symbolic link.

    `entries` are the paths of everything in the directories that we descend into (the root and the ones that
    protokube or kops make), relative to the volume's root; a directory ends in "/". `texts` holds the content
    of the identity file and of the manifests. `mtimes` (nanoseconds) belong to the same files. `overflow` says
    that there was more than we were ready to list. `uuid` is the filesystem's, as the kernel or its superblock
    tells; None when neither does.
    """

    entries: frozenset[str] = frozenset()
    texts: Mapping[str, str] = field(default_factory=dict)
    mtimes: Mapping[str, int] = field(default_factory=dict)
    overflow: bool = False
    uuid: str | None = None
