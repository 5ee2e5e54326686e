"""What the node should be: which volumes are its own, which it may still claim, and which are refused.

Everything is judged from tags and attachments alone; what stands on a disk is the disk planner's matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from protokube.core.disks.model import Mount
from protokube.core.model import Rejected, Unknown
from protokube.core.observed import Observed
from protokube.core.settings import NodeConfig
from protokube.core.volumes import tags as tagging
from protokube.core.volumes.model import (
    BOOTSTRAPPED_TAG,
    MAIN,
    MOUNT_PREFIX,
    CloudVolume,
    EtcdMember,
    Instance,
    MemberVolume,
    RejectedVolume,
    cluster_order,
)
from protokube.core.volumes.uuid import filesystem_uuid

USABLE = ("available", "in-use", "creating")
"""The words in which a cloud says that a volume is, or will soon be, of use."""


def is_place(mount: Mount) -> bool:
    """Whether a disk is mounted where a volume of ours would be; not a tmpfs, nor something below such a place."""
    inside = mount.target.removeprefix(MOUNT_PREFIX)
    return inside != mount.target and "/" not in inside and mount.number[0] != 0


class Desired(Struct, frozen=True):
    """The judgement of one round.

    `cluster_id` and `instance` are known by then. `all` are the accepted volumes of every zone; `held` are ours,
    one per etcd cluster; `candidates` are free ones in order of preference, for each etcd cluster that this node
    lacks; `elsewhere` says for every etcd cluster which volumes of this zone others hold, and who. `foreign` are
    the volumes that are passed over, since their tags name another cluster or none. `witnesses` are refused volumes
    with a member's tag, and `illegible`, by etcd cluster, those whose tags can't be read but tell that etcd ran: what
    isn't fit to be used may still hold a cluster's data. `blocked` are the etcd clusters for which this machine takes
    no volume, since it has one that is refused; `main_refused` says whether a `main` volume of its zone is.
    """

    cluster_id: str
    instance: Instance
    all: tuple[MemberVolume, ...]
    held: Mapping[str, MemberVolume]
    candidates: Mapping[str, tuple[MemberVolume, ...]]
    elsewhere: Mapping[str, Mapping[str, str]]
    rejected: tuple[RejectedVolume, ...]
    foreign: tuple[CloudVolume, ...] = ()
    witnesses: tuple[MemberVolume, ...] = ()
    illegible: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    blocked: frozenset[str] = frozenset()
    main_refused: bool = False

    @property
    def others_may_choose(self) -> bool:
        """Whether other etcd clusters than `main`, which decides which member this machine is, may choose a volume.

        When it has a `main` volume, or when every one of its zone is refused: that stops no other.
        """
        open_ = self.candidates.get(MAIN) or self.elsewhere.get(MAIN)
        return MAIN in self.held or (self.main_refused and not open_)

    def of_member(self, cluster: str, member: str) -> tuple[MemberVolume, ...]:
        """The volumes that carry a member of an etcd cluster."""
        return tuple(mine for mine in self.all if mine.member.cluster == cluster and mine.member.me == member)


def desire(config: NodeConfig, observed: Observed) -> Desired | None:
    """Judge the volumes; None on a worker, which takes none, and while the instance or the volumes are unknown."""
    instance, volumes = observed.instance, observed.volumes
    if not config.master or isinstance(instance, Unknown) or isinstance(volumes, Unknown):
        return None
    cluster_id = config.cluster_id or instance.cluster_id
    ours, foreign = _of_cluster(cluster_id, volumes)
    accepted, witnesses, rejected = _judge_tags(config, cluster_id, instance, ours)
    rejected += _duplicates(accepted, witnesses)
    rejected += _without_cluster(foreign, instance)
    held, surplus = _held(accepted, instance, observed.mounts)
    rejected += surplus
    refused = {one.volume_id for one in rejected}
    blocked = _blocked_clusters(volumes, held, instance, cluster_id)
    usable = tuple(mine for mine in accepted if mine.id not in refused)
    here = [mine for mine in usable if mine.volume.zone == instance.zone]
    keys = cluster_order(mine.member.cluster for mine in here)
    lacking = [key for key in keys if key not in held]
    return Desired(
        cluster_id,
        instance,
        accepted,
        held,
        {key: () if key in blocked else _candidates(key, here, held, instance) for key in lacking},
        {key: _holders(key, here, instance) for key in keys},
        tuple(sorted(rejected, key=lambda one: one.volume_id)),
        foreign,
        witnesses,
        _illegible(ours),
        blocked,
        _refuses_main(rejected, volumes, instance),
    )


def _of_cluster(
    cluster_id: str, volumes: tuple[CloudVolume, ...]
) -> tuple[tuple[CloudVolume, ...], tuple[CloudVolume, ...]]:
    """The cluster's volumes and the others. There may be a thousand others, so no more is done with them here."""
    ours: list[CloudVolume] = []
    foreign: list[CloudVolume] = []
    for volume in volumes:
        (ours if tagging.in_cluster(volume.tags, cluster_id) else foreign).append(volume)
    return tuple(ours), tuple(foreign)


def _judge_tags(
    config: NodeConfig, cluster_id: str, instance: Instance, volumes: tuple[CloudVolume, ...]
) -> tuple[tuple[MemberVolume, ...], tuple[MemberVolume, ...], list[RejectedVolume]]:
    accepted: list[MemberVolume] = []
    witnesses: list[MemberVolume] = []
    rejected: list[RejectedVolume] = []
    for volume in sorted(volumes, key=lambda volume: volume.id):
        judged = tagging.etcd_member(volume.tags)
        if judged is None:
            continue
        if isinstance(judged, EtcdMember):
            member, uuid = judged, filesystem_uuid(cluster_id, judged, volume.id)
            mine = MemberVolume(_as_attached_here(volume, instance), member, uuid)
            judged = _unfit(config, volume, member)
            if judged is None:
                accepted.append(mine)
                continue
            witnesses.append(mine)
            rejected.append(RejectedVolume(volume.id, member.cluster, judged.rule, judged.evidence))
        else:
            rejected.append(RejectedVolume(volume.id, _cluster_key(volume), judged.rule, judged.evidence))
    return tuple(accepted), tuple(witnesses), rejected


def _illegible(volumes: tuple[CloudVolume, ...]) -> dict[str, tuple[str, ...]]:
    """Volumes on which etcd ran, and of whose members only the etcd clusters can be told."""
    found: dict[str, tuple[str, ...]] = {}
    for volume in volumes:
        if BOOTSTRAPPED_TAG in volume.tags and isinstance(tagging.etcd_member(volume.tags), Rejected):
            for key in tagging.etcd_clusters(volume.tags):
                found[key] = (*found.get(key, ()), volume.id)
    return found


def _may_be_ours(volume: CloudVolume, cluster_id: str) -> bool:
    return tagging.in_cluster(volume.tags, cluster_id) or not tagging.cluster_names(volume.tags)


def _without_cluster(foreign: tuple[CloudVolume, ...], instance: Instance) -> list[RejectedVolume]:
    """Volumes of this machine that lost the cluster's tag, or don't have it yet: not passed over in silence."""
    evidence = f"attached to this machine, with an etcd tag and none that names a cluster ({tagging.CLUSTER_TAG})"
    return [
        RejectedVolume(volume.id, _cluster_key(volume), "volume/no-cluster", evidence)
        for volume in foreign
        if volume.attachment_to(instance.id)
        and tagging.has_etcd_tag(volume.tags)
        and not tagging.cluster_names(volume.tags)
    ]


def _as_attached_here(volume: CloudVolume, instance: Instance) -> CloudVolume:
    """The volume with the name that was asked for on this machine, beside an attachment elsewhere that isn't over."""
    ours, asked = volume.attachment_to(instance.id), volume.identity.asked
    if ours is None or asked is None or asked == ours.device:
        return volume
    return replace(volume, identity=replace(volume.identity, asked=ours.device))


def _unfit(config: NodeConfig, volume: CloudVolume, member: EtcdMember) -> Rejected | None:
    if not tagging.has_master_role(volume.tags):
        return Rejected("volume/no-role", f"it has an etcd tag, but none of {' or '.join(tagging.ROLE_TAGS)}")
    if volume.multi_attach:
        return Rejected("volume/multi-attach", "it can be attached to several instances at once; etcd needs its own")
    if not volume.attachments and volume.status not in USABLE:
        return Rejected("volume/status", f"the cloud says: {volume.status}")
    if member.cluster not in config.templates:
        known = ", ".join(cluster_order(config.templates))
        expected = f"there is no template {member.cluster}.yaml (templates: {known})"
        return Rejected("volume/unknown-etcd-cluster", f"tag {tagging.ETCD_TAG_PREFIX}{member.cluster}: {expected}")
    return None


def _cluster_key(volume: CloudVolume) -> str | None:
    keys = tagging.etcd_clusters(volume.tags)
    return keys[0] if len(keys) == 1 else None


def _duplicates(accepted: tuple[MemberVolume, ...], witnesses: tuple[MemberVolume, ...]) -> list[RejectedVolume]:
    """No unattached one of several volumes with the same member is taken: one may be an old snapshot's copy."""
    refused = {mine.id for mine in witnesses}
    groups: dict[tuple[str, str], list[MemberVolume]] = {}
    for mine in (*accepted, *witnesses):
        groups.setdefault((mine.member.cluster, mine.member.me), []).append(mine)
    return [
        RejectedVolume(
            mine.id,
            mine.member.cluster,
            "volume/duplicate-member",
            f"member {mine.member.me} of etcd cluster {mine.member.cluster} also stands on "
            + ", ".join(other.id for other in group if other is not mine),
        )
        for group in groups.values()
        if len(group) > 1
        for mine in group
        if not mine.volume.attachments and mine.id not in refused
    ]


def _held(
    accepted: tuple[MemberVolume, ...], instance: Instance, mounts: tuple[Mount, ...] | Unknown
) -> tuple[dict[str, MemberVolume], list[RejectedVolume]]:
    """Ours, one per etcd cluster: what is mounted already is never displaced by what was attached later."""
    mounted = set() if isinstance(mounts, Unknown) else {mount.target for mount in mounts}
    held: dict[str, MemberVolume] = {}
    surplus: list[RejectedVolume] = []
    for mine in sorted(accepted, key=lambda mine: (mine.target not in mounted, mine.id)):
        if mine.volume.attachment_to(instance.id) is None:
            continue
        first = held.setdefault(mine.member.cluster, mine)
        if first is not mine:
            evidence = f"{first.id} serves etcd cluster {mine.member.cluster} on this machine; one volume per cluster"
            surplus.append(RejectedVolume(mine.id, mine.member.cluster, "volume/second-of-cluster", evidence))
    return held, surplus


def _blocked_clusters(
    volumes: tuple[CloudVolume, ...], held: Mapping[str, MemberVolume], instance: Instance, cluster_id: str
) -> frozenset[str]:
    """A machine whose volume for a cluster is refused, whatever for, takes no other volume for that cluster."""
    serving = {mine.id for mine in held.values()}
    return frozenset(
        key
        for volume in volumes
        if volume.attachment_to(instance.id) and volume.id not in serving and _may_be_ours(volume, cluster_id)
        for key in tagging.etcd_clusters(volume.tags)
    )


def _refuses_main(rejected: list[RejectedVolume], volumes: tuple[CloudVolume, ...], instance: Instance) -> bool:
    here = {volume.id for volume in volumes if volume.zone == instance.zone}
    return any(one.cluster == MAIN and one.volume_id in here for one in rejected)


def _candidates(
    key: str, here: list[MemberVolume], held: Mapping[str, MemberVolume], instance: Instance
) -> tuple[MemberVolume, ...]:
    """Free volumes in order: the member that we already are in `main`, then a hash that differs by instance."""
    main = held.get(MAIN)

    def order(mine: MemberVolume) -> tuple[bool, bool, str]:
        other_member = main is not None and mine.member.me != main.member.me
        digest = hashlib.sha256(f"{instance.id}\n{mine.id}".encode()).hexdigest()
        return other_group(mine, instance), other_member, digest

    free = [mine for mine in here if mine.member.cluster == key and mine.volume.available]
    return tuple(sorted(free, key=order))


def other_group(mine: MemberVolume, instance: Instance) -> bool:
    """Whether the volume was made for another instance group than this machine's."""
    group = tagging.instance_group(mine.volume.tags)
    return group is not None and group != instance.instance_group


def claimable(desired: Desired) -> dict[str, tuple[MemberVolume, ...]]:
    """The candidates that this machine would really take: of `main` alone, until it is settled which that is."""
    keys = desired.candidates.keys() if desired.others_may_choose else desired.candidates.keys() & {MAIN}
    return {key: desired.candidates[key] for key in cluster_order(keys) if desired.candidates[key]}


def _holders(key: str, here: list[MemberVolume], instance: Instance) -> dict[str, str]:
    return {
        mine.id: mine.volume.attachments[0].instance
        for mine in here
        if mine.member.cluster == key and mine.volume.attachments and not mine.volume.attachment_to(instance.id)
    }
