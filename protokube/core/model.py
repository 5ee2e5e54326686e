"""The values that the whole program speaks in: what was configured, and what was observed.

Everything here is immutable. A part of the world that could not be read is `Unknown`, which is never the
same as empty. Sizes are bytes, times are seconds since the epoch, paths are absolute and without the
`--root` prefix unless a field says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from protokube.core.value import dataclass, field

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class Fault:
    """Something wrong in the input: `place` says where, `message` the value and what was expected."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


@dataclass(frozen=True)
class Unknown:
    """A part of the world that could not be read, and why."""

    reason: str


class Unread(Unknown):
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


@dataclass(frozen=True)
class Instance:
    """Who and where this machine is.

    `internal` and `external` are IP addresses, IPv4 before IPv6. `used_devices` are the device names in the
    instance's block device mapping. `device_names` are the names this cloud offers for attaching, in order
    of preference; empty when the cloud chooses itself. `roles` are the ones that the cloud's tags name, if any.
    While the mapping is young it may know better than a lagging answer: `attached` are the volumes that it names, and
    `doubtful_devices` those of its device names whose volume the cloud doesn't tell, which may be an etcd volume.
    """

    id: str
    name: str
    zone: str
    cluster_id: str
    internal: tuple[str, ...]
    external: tuple[str, ...] = ()
    instance_group: str | None = None
    provider_id: str | None = None
    used_devices: frozenset[str] = frozenset()
    device_names: tuple[str, ...] = ()
    roles: frozenset[str] = frozenset()
    attached: frozenset[str] = frozenset()
    doubtful_devices: frozenset[str] = frozenset()


class AttachState(StrEnum):
    """The phases of an attachment, in EC2's words."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"
    BUSY = "busy"


@dataclass(frozen=True)
class Attachment:
    """Which instance holds a volume. `device` is the name that was asked for, not the one the kernel gave."""

    instance: str
    device: str | None
    state: AttachState


@dataclass(frozen=True)
class DiskIdentity:
    """How this machine recognises a volume's disk. Any field may be absent; what is given must agree.

    `serials`: what sysfs shows for the disk (NVMe: 20 characters, virtio: up to 20).
    `backing`: (st_dev, st_ino) of the file behind a loop device.
    `path`: a stable link such as /dev/disk/by-id/…, for disks that belong to the machine.
    `asked`: the device name asked of the cloud; it counts only for a disk without a serial, with exactly the
    volume's size, on a machine without NVMe disks.
    """

    serials: frozenset[str] = frozenset()
    backing: tuple[int, int] | None = None
    path: str | None = None
    asked: str | None = None


@dataclass(frozen=True)
class CloudVolume:
    """A volume as the cloud describes it. Only core/tags.py judges the tags.

    `available`: the cloud says that it could be attached now. `status` is the cloud's own word, for people.
    `pristine`: True when the provider can prove that nothing was ever written to it, None when it can't tell.
    """

    id: str
    zone: str
    size: int
    tags: Mapping[str, str]
    status: str = "available"
    attachments: tuple[Attachment, ...] = ()
    multi_attach: bool = False
    identity: DiskIdentity = DiskIdentity()
    pristine: bool | None = None

    @property
    def available(self) -> bool:
        """Nobody holds it and the cloud would attach it."""
        return not self.attachments and self.status == "available"

    def attachment_to(self, instance: str) -> Attachment | None:
        """The attachment to `instance`, if there is one."""
        return next((a for a in self.attachments if a.instance == instance), None)


class PeerState(StrEnum):
    """Whether a peer's instance is there. Only `GONE` ever leads to a removal."""

    RUNNING = "running"
    STOPPED = "stopped"
    GONE = "gone"


@dataclass(frozen=True)
class Peer:
    """A machine that holds etcd volumes (this one included).

    `members` maps an etcd cluster's key to the member that lives there, for machines whose disks are not
    listed as volumes; elsewhere a peer's members follow from the volumes it holds.
    """

    instance: str
    internal: tuple[str, ...]
    external: tuple[str, ...] = ()
    state: PeerState = PeerState.RUNNING
    members: Mapping[str, str] = field(default_factory=dict)


# --- disks and mounts ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Intent:
    """The record of a format in progress, kept on the disk itself until the filesystem is complete."""

    cluster_id: str
    etcd_cluster: str
    member: str
    volume_id: str
    size: int
    uuid: str


@dataclass(frozen=True)
class Blank:
    """Every proof of blankness held. `resumes` is the intent of an interrupted format, if there was one."""

    resumes: Intent | None = None


@dataclass(frozen=True)
class Ext4:
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


@dataclass(frozen=True)
class NotBlank:
    """Neither blank nor an ext4 filesystem: never touched. `evidence` says what was found and where."""

    evidence: str


@dataclass(frozen=True)
class Mounted:
    """The disk is mounted; it is judged by its mount, without touching it."""


@dataclass(frozen=True)
class Working:
    """A tool is at work on the disk, or somebody else holds its lock. `tool` is the tool's name when known."""

    tool: str


DiskContent = Blank | Ext4 | NotBlank | Mounted | Working


@dataclass(frozen=True)
class Disk:
    """A volume's block device on this machine. `number` is (major, minor); `size` is the kernel's."""

    device: str
    number: tuple[int, int]
    size: int
    content: DiskContent


@dataclass(frozen=True)
class NoDisk:
    """The cloud says attached, the machine has no such device yet. `hint` says what was looked for, for people."""

    hint: str


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo. `target` is a path without the root prefix; `errors` is ext4's errors_count."""

    target: str
    number: tuple[int, int]
    fstype: str
    read_only: bool
    shutdown: bool = False
    errors: int = 0


@dataclass(frozen=True)
class Tree:
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


# --- files, units, etcd ----------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    """A regular file. `text` is None when it isn't UTF-8 or is larger than we ever write."""

    text: str | None
    mode: int
    mtime_ns: int


@dataclass(frozen=True)
class Link:
    """A symbolic link with its target as written; nobody looks where it leads, which may be a disk that hangs."""

    target: str
    mtime_ns: int


@dataclass(frozen=True)
class Directory:
    """A directory."""

    mode: int


@dataclass(frozen=True)
class Absent:
    """Nothing stands at the path."""


@dataclass(frozen=True)
class OtherFile:
    """A socket, device or pipe: never written to."""

    kind: str


FileState = File | Link | Directory | Absent | OtherFile


@dataclass(frozen=True)
class UnitState:
    """A systemd unit, in systemd's words.

    `started_at` is when its main process was started (seconds since the epoch), None if it never was.
    """

    load: str
    active: str
    sub: str
    started_at: float | None = None
    restarts: int = 0


@dataclass(frozen=True)
class EtcdPeerMember:
    """A member as an etcd peer lists it. A member that never started has no client URLs."""

    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]


@dataclass(frozen=True)
class PeerAnswers:
    """What peers of an etcd cluster answered: the member list of each member that was heard, by the member.

    `silence` says why the others were not.
    """

    lists: Mapping[str, tuple[EtcdPeerMember, ...]]
    silence: str = ""


# --- etcd members ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class EtcdMember:
    """What a volume's etcd tag says: which member of which etcd cluster it carries.

    `cluster` is the tag's key (`main`, `events`, …), `me` this member, `members` all of them in the tag's order.
    """

    cluster: str
    me: str
    members: tuple[str, ...]
