"""Instances, volumes and peers as a cloud describes them, and the judgement of the volumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct, field

from protokube.core.model import Unknown
from protokube.core.node.model import Mount
from protokube.core.steps import Findings

FILESYSTEM_TAG = "protokube.k8s.io/filesystem"
BOOTSTRAPPED_TAG = "protokube.k8s.io/etcd-bootstrapped"
"""The two tags that protokube writes."""


class Instance(Struct, frozen=True, tag=True):
    """This machine, as the cloud describes it.

    `internal` and `external` are IP addresses, IPv4 before IPv6. `roles` are the ones that the cloud's tags name, if
    any.
    """

    id: str
    name: str
    zone: str
    cluster_id: str
    internal: tuple[str, ...]
    external: tuple[str, ...] = ()
    instance_group: str | None = None
    provider_id: str | None = None
    roles: frozenset[str] = frozenset()


class AttachState(StrEnum):
    """The phases of an attachment, in EC2's words.

    `UNCONFIRMED`: this machine requested the volume, or had it moments ago, and the cloud shows no attachment. It may
    be this machine's. Only the provider knows for how long that lasts.
    """

    UNCONFIRMED = "unconfirmed"
    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"
    BUSY = "busy"


class Attachment(Struct, frozen=True):
    """A volume's attachment to an instance. `device` is the name that was requested, not the kernel's."""

    instance: str
    device: str | None
    state: AttachState


class DiskIdentity(Struct, frozen=True):
    """How this machine recognises a volume's disk. Any field may be absent; those that are given must agree.

    `serials`: what sysfs shows for the disk (NVMe: 20 characters, virtio: up to 20).
    `backing`: (st_dev, st_ino) of the file behind a loop device.
    `path`: a stable link such as /dev/disk/by-id/…, for disks that belong to the machine.
    `requested`: the device name requested of the cloud; it counts only for a disk without a serial, with exactly the
    volume's size, on a machine without NVMe disks.
    """

    serials: frozenset[str] = frozenset()
    backing: tuple[int, int] | None = None
    path: str | None = None
    requested: str | None = None


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
        """Whether it is attached to no instance, and the cloud would attach it."""
        return not self.attachments and self.status == "available"

    def attachment_to(self, instance: str) -> Attachment | None:
        """The attachment to `instance`, if there is one."""
        return next((a for a in self.attachments if a.instance == instance), None)


class PeerState(StrEnum):
    """The state of a peer's instance. Only `TERMINATED` ever leads to a removal."""

    RUNNING = "running"
    STOPPED = "stopped"
    TERMINATED = "terminated"


class Peer(Struct, frozen=True):
    """A machine with etcd volumes (this one included).

    `members` maps an etcd cluster's key to its member there, for machines whose disks are not listed as volumes.
    Elsewhere a peer's members follow from the volumes attached to it. `name` is its node's name where that isn't
    `instance` and the cloud tells it; this machine's own stands in `Instance`.
    """

    instance: str
    internal: tuple[str, ...]
    external: tuple[str, ...] = ()
    state: PeerState = PeerState.RUNNING
    members: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


class CloudSnapshot(Struct, frozen=True):
    """One answer of a cloud. A part that could not be read is Unknown, and does not hide the rest.

    `instance` is this machine; `volumes` are all that may concern it, in all zones; `peers` are the machines with
    etcd volumes, this one included. `can_tag` is False once the cloud has refused this machine's tags.
    """

    instance: Instance | Unknown
    volumes: tuple[CloudVolume, ...] | Unknown = ()
    peers: tuple[Peer, ...] | Unknown = ()
    can_tag: bool = True


class EtcdMember(Struct, frozen=True):
    """The etcd member on a volume, from the volume's etcd tag.

    `cluster` is the tag's key (`main`, `events`, …), `me` this member, `members` all of them in the tag's order.
    """

    cluster: str
    me: str
    members: tuple[str, ...]


MAIN = "main"
FIRST = {MAIN: 0, "events": 1}
"""The etcd clusters that every Kubernetes has, in their order; others come after."""

MOUNT_DIR = "/mnt"
MOUNT_PREFIX = f"{MOUNT_DIR}/master-"


def cluster_order(clusters: Iterable[str]) -> list[str]:
    """`main` before `events`, other etcd clusters after, by name."""
    return sorted(set(clusters), key=lambda key: (FIRST.get(key, len(FIRST)), key))


def is_mount_point(mount: Mount) -> bool:
    """Whether a disk is mounted at the mount point of a volume; a tmpfs, or a path below, doesn't count."""
    inside = mount.target.removeprefix(MOUNT_PREFIX)
    return inside != mount.target and "/" not in inside and mount.number[0] != 0


class MemberVolume(Struct, frozen=True):
    """A volume whose tags name an etcd member of this cluster, in any zone and in any state of attachment.

    `uuid` is the UUID of the filesystem that protokube makes for this member on this volume.
    """

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
        """Whether a tag says that etcd ran from this volume."""
        return BOOTSTRAPPED_TAG in self.volume.tags

    @property
    def made_by_us(self) -> bool:
        """Whether a tag says that protokube made this volume's filesystem for this member."""
        return self.volume.tags.get(FILESYSTEM_TAG) == self.uuid


class RejectedVolume(Struct, frozen=True):
    """A refused volume, and why. `cluster` is the etcd cluster that it would serve, when that is known."""

    volume_id: str
    cluster: str | None
    rule: str
    evidence: str


class Coming(Struct, frozen=True):
    """Why a volume will soon be free for this machine. `external`: the time is unknown."""

    reason: str
    external: bool = False


class Claim(Struct, frozen=True):
    """The one volume to request now, and why."""

    volume: MemberVolume
    reason: str


class VolumeSettings(Struct, frozen=True):
    """The operator's settings: the cluster, unless the cloud's tags name it, and the templates' etcd clusters."""

    cluster_id: str | None = None
    etcd_clusters: frozenset[str] = frozenset()


class VolumesAssessment(Struct, frozen=True):
    """The judgement of the volumes: this machine's, free ones, and refused ones.

    - `all`: the accepted volumes of every zone. `ours`: this machine's, one per etcd cluster.
    - `candidates`: free volumes in order of preference, for each etcd cluster that this machine lacks.
    - `in_use_elsewhere`: for every etcd cluster, the volumes of this zone that are attached elsewhere → the instance.
    - `rejected`: the refused volumes. `evidence`: those of them that name a member. `unparsable`: by etcd cluster,
      those whose tags can't be parsed but tell that etcd ran. A refused volume may still have a cluster's data.
    - `unmanaged`: volumes whose tags name another cluster, or none.
    - `blocked`: etcd clusters for which a refused volume is attached here, so that no other is claimed.
    - `main_refused`: a `main` volume of this zone is refused.
    - `unconfirmed`: volumes that may be this machine's, and that the cloud doesn't show as such.
    - `coming`: volumes that will be free soon. `claim`: the volume to request now.
    - `stray`: volumes mounted at a mount point of ours that aren't known to be this machine's.
    - `barred`: volumes that can't be mounted at their mount point → why.
    - `announce`: why to tell the other nodes this one's addresses.
    """

    cluster_id: str
    instance: Instance
    all: tuple[MemberVolume, ...]
    ours: Mapping[str, MemberVolume]
    candidates: Mapping[str, tuple[MemberVolume, ...]]
    in_use_elsewhere: Mapping[str, Mapping[str, str]]
    rejected: tuple[RejectedVolume, ...] = ()
    unmanaged: tuple[CloudVolume, ...] = ()
    evidence: tuple[MemberVolume, ...] = ()
    unparsable: Mapping[str, tuple[str, ...]] = {}
    blocked: frozenset[str] = frozenset()
    main_refused: bool = False
    unconfirmed: frozenset[str] = frozenset()
    coming: Mapping[str, Coming] = {}
    stray: frozenset[str] = frozenset()
    barred: Mapping[str, str] = {}
    claim: Claim | None = None
    announce: str | None = None
    findings: Findings = field(default_factory=Findings)

    @property
    def attached(self) -> Mapping[str, tuple[EtcdMember, ...]]:
        """The members on the volumes that are attached to each instance."""
        found: dict[str, tuple[EtcdMember, ...]] = {}
        for one in self.all:
            for attachment in one.volume.attachments:
                found[attachment.instance] = (*found.get(attachment.instance, ()), one.member)
        return found

    @property
    def others_may_choose(self) -> bool:
        """Whether etcd clusters other than `main` may choose a volume: `main` decides which member this machine is.

        True when this machine has a `main` volume, or when every one of its zone is refused: that stops no other.
        """
        open_ = self.candidates.get(MAIN) or self.in_use_elsewhere.get(MAIN)
        return MAIN in self.ours or (self.main_refused and not open_)

    def attachment(self, volume: MemberVolume) -> Attachment | None:
        """The volume's attachment to this machine."""
        return volume.volume.attachment_to(self.instance.id)

    def of_member(self, cluster: str, member: str) -> tuple[MemberVolume, ...]:
        """The volumes that carry a member of an etcd cluster."""
        return tuple(one for one in self.all if one.member.cluster == cluster and one.member.me == member)

    def claimable(self) -> tuple[MemberVolume, ...]:
        """The candidates that this machine may claim: those of `main` alone until it has one."""
        keys = self.candidates.keys() if self.others_may_choose else self.candidates.keys() & {MAIN}
        return tuple(one for key in cluster_order(keys) for one in self.candidates[key])
