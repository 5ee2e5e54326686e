"""Instances, volumes and peers as a cloud describes them, and the etcd members that the volumes carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct, field

from protokube.core.model import Unknown

FILESYSTEM_TAG = "protokube.k8s.io/filesystem"
BOOTSTRAPPED_TAG = "protokube.k8s.io/etcd-bootstrapped"
"""The two tags that protokube writes."""


class Instance(Struct, frozen=True):
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
    """The phases of an attachment, in EC2's words.

    `UNCONFIRMED`: this machine requested the volume, or held it moments ago, and the cloud shows no holder at all. It may
    be this machine's. Only the provider can tell for how long that lasts.
    """

    UNCONFIRMED = "unconfirmed"
    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"
    BUSY = "busy"


class Attachment(Struct, frozen=True):
    """Which instance holds a volume. `device` is the name that was asked for, not the one the kernel gave."""

    instance: str
    device: str | None
    state: AttachState


class DiskIdentity(Struct, frozen=True):
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


class Obstacle(Struct, frozen=True):
    """Why the cloud would not attach a volume to this machine now.

    With a `rule` (a stable id) it is refused until an operator acts; without one it passes by itself.
    """

    reason: str
    rule: str | None = None


class CloudVolume(Struct, frozen=True):
    """A volume as the cloud describes it. Only core/volumes/tags.py judges the tags.

    `available`: the cloud says that it could be attached now. `status` is the cloud's own word, for people.
    `pristine`: True when the provider can prove that nothing was ever written to it, None when it can't tell.
    `obstacle`: what keeps the cloud from attaching it to this machine now, if anything does.
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
    obstacle: Obstacle | None = None

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


class Peer(Struct, frozen=True):
    """A machine that holds etcd volumes (this one included).

    `members` maps an etcd cluster's key to the member that lives there, for machines whose disks are not
    listed as volumes; elsewhere a peer's members follow from the volumes it holds.
    """

    instance: str
    internal: tuple[str, ...]
    external: tuple[str, ...] = ()
    state: PeerState = PeerState.RUNNING
    members: Mapping[str, str] = field(default_factory=dict)


class CloudSnapshot(Struct, frozen=True):
    """One answer of a cloud. What could not be read is Unknown, and does not hide the rest.

    `instance` is this machine; `volumes` are all that may concern it, in all zones; `peers` are the machines that
    hold etcd volumes, this one included. `can_tag` is False once the cloud has refused to let this machine write tags.
    """

    instance: Instance | Unknown
    volumes: tuple[CloudVolume, ...] | Unknown = ()
    peers: tuple[Peer, ...] | Unknown = ()
    can_tag: bool = True


class EtcdMember(Struct, frozen=True):
    """What a volume's etcd tag says: which member of which etcd cluster it carries.

    `cluster` is the tag's key (`main`, `events`, …), `me` this member, `members` all of them in the tag's order.
    """

    cluster: str
    me: str
    members: tuple[str, ...]


MAIN = "main"


FIRST = {MAIN: 0, "events": 1}
"""The etcd clusters that every Kubernetes has, in their order; others come after."""


MOUNT_PREFIX = "/mnt/master-"


class MemberVolume(Struct, frozen=True):
    """A volume that carries an etcd member of this cluster, in whatever zone and whoever holds it."""

    volume: CloudVolume
    member: EtcdMember
    uuid: str

    @property
    def id(self) -> str:
        """The volume's id."""
        return self.volume.id

    @property
    def target(self) -> str:
        """Its mount point, without the root prefix."""
        return MOUNT_PREFIX + self.volume.id

    @property
    def marked_bootstrapped(self) -> bool:
        """Whether the cloud remembers that etcd ran from this volume."""
        return BOOTSTRAPPED_TAG in self.volume.tags

    @property
    def made_by_us(self) -> bool:
        """Whether the cloud remembers that protokube made this very volume's filesystem for this member."""
        return self.volume.tags.get(FILESYSTEM_TAG) == self.uuid


class RejectedVolume(Struct, frozen=True):
    """A volume that is not taken, and why. `cluster` is the etcd cluster it would serve, when that is known."""

    volume_id: str
    cluster: str | None
    rule: str
    evidence: str


def cluster_order(clusters: Iterable[str]) -> list[str]:
    """`main` before `events`, other etcd clusters after, by name."""
    return sorted(set(clusters), key=lambda key: (FIRST.get(key, 2), key))
