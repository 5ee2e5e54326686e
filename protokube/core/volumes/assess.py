"""Which volumes are this machine's, which it may still claim, and which are refused.

The judgement rests on tags and attachments alone; core/disks judges what a disk holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from protokube.core.model import Rejected, Unknown
from protokube.core.node.model import Mount
from protokube.core.volumes import claiming, hints, tags
from protokube.core.volumes.model import (
    BOOTSTRAPPED_TAG,
    MAIN,
    MOUNT_DIR,
    MOUNT_PREFIX,
    Attachment,
    AttachState,
    CloudSnapshot,
    CloudVolume,
    EtcdMember,
    Instance,
    MemberVolume,
    RejectedVolume,
    VolumesAssessment,
    VolumeSettings,
    cluster_order,
    is_mount_point,
)
from protokube.core.volumes.tracking import DEADLINE, AttachTracking, Phase
from protokube.core.volumes.uuid import filesystem_uuid

USABLE = ("available", "in-use", "creating")
"""A cloud's words for a volume that can be used now or soon."""


def assess(
    settings: VolumeSettings,
    cloud: CloudSnapshot,
    tracking: AttachTracking,
    mounts: tuple[Mount, ...] | Unknown,
    barred: Mapping[str, str] = {},
) -> VolumesAssessment | None:
    """Judge the volumes; None while the instance or the volumes are unknown."""
    if isinstance(cloud.instance, Unknown) or isinstance(cloud.volumes, Unknown):
        return None
    judged = _select(settings, cloud.instance, cloud.volumes, mounts)
    judged = replace(
        judged,
        coming=claiming.coming(judged, cloud),
        stray=_stray(judged, () if isinstance(mounts, Unknown) else mounts),
        barred=_barred(judged, barred),
    )
    _refuse(judged)
    decision = claiming.decide(judged, tracking, mounts_known=not isinstance(mounts, Unknown))
    _follow(judged, tracking, mounts)
    hints.add_hints(judged)
    return replace(judged, claim=decision, announce=_why_announce(cloud, judged.instance))


def _select(
    settings: VolumeSettings, instance: Instance, volumes: Sequence[CloudVolume], mounts: tuple[Mount, ...] | Unknown
) -> VolumesAssessment:
    cluster_id = settings.cluster_id or instance.cluster_id
    managed, unmanaged = _of_cluster(cluster_id, volumes)
    accepted, evidence, rejected = _judge_tags(settings, cluster_id, instance, managed)
    rejected += _duplicates(accepted, evidence)
    rejected += _without_cluster(unmanaged, instance)
    ours, surplus = _ours(accepted, instance, mounts)
    rejected += surplus
    refused = {one.volume_id for one in rejected}
    blocked = _blocked_clusters(volumes, ours, instance, cluster_id)
    here = [one for one in accepted if one.id not in refused and one.volume.zone == instance.zone]
    keys = cluster_order(one.member.cluster for one in here)
    lacking = [key for key in keys if key not in ours]
    return VolumesAssessment(
        cluster_id,
        instance,
        accepted,
        ours,
        candidates={key: () if key in blocked else _candidates(key, here, ours, instance) for key in lacking},
        in_use_elsewhere={key: _holders(key, here, instance) for key in keys},
        rejected=tuple(sorted(rejected, key=lambda one: one.volume_id)),
        unmanaged=unmanaged,
        evidence=evidence,
        unparsable=_unparsable(managed),
        blocked=blocked,
        main_refused=_refuses_main(rejected, volumes, instance),
        unconfirmed=frozenset(volume.id for volume in volumes if _is_unconfirmed(volume.attachment_to(instance.id))),
    )


def _is_unconfirmed(attachment: Attachment | None) -> bool:
    return attachment is not None and attachment.state is AttachState.UNCONFIRMED


def _is_here(volume: CloudVolume, instance: Instance) -> bool:
    """Whether the cloud shows the volume as this machine's, in whatever phase."""
    attachment = volume.attachment_to(instance.id)
    return attachment is not None and not _is_unconfirmed(attachment)


def _of_cluster(
    cluster_id: str, volumes: Sequence[CloudVolume]
) -> tuple[tuple[CloudVolume, ...], tuple[CloudVolume, ...]]:
    """Split the volumes into the cluster's and the others."""
    # An account may have thousands of other volumes: they cost one look at their tags.
    managed: list[CloudVolume] = []
    unmanaged: list[CloudVolume] = []
    for volume in volumes:
        (managed if tags.in_cluster(volume.tags, cluster_id) else unmanaged).append(volume)
    return tuple(managed), tuple(unmanaged)


def _judge_tags(
    settings: VolumeSettings, cluster_id: str, instance: Instance, volumes: tuple[CloudVolume, ...]
) -> tuple[tuple[MemberVolume, ...], tuple[MemberVolume, ...], list[RejectedVolume]]:
    accepted: list[MemberVolume] = []
    evidence: list[MemberVolume] = []
    rejected: list[RejectedVolume] = []
    for volume in sorted(volumes, key=lambda volume: volume.id):
        judged = tags.etcd_member(volume.tags)
        if judged is None:
            continue
        if isinstance(judged, Rejected):
            rejected.append(RejectedVolume(volume.id, _cluster_key(volume), judged.rule, judged.evidence))
            continue
        found = MemberVolume(
            _as_attached_here(volume, instance), judged, filesystem_uuid(cluster_id, judged, volume.id)
        )
        unfit = _unfit(settings, volume, judged)
        if unfit is None:
            accepted.append(found)
        else:
            evidence.append(found)
            rejected.append(RejectedVolume(volume.id, judged.cluster, unfit.rule, unfit.evidence))
    return tuple(accepted), tuple(evidence), rejected


def _unparsable(volumes: tuple[CloudVolume, ...]) -> dict[str, tuple[str, ...]]:
    """Volumes on which etcd ran, by the etcd clusters that their tags name; the members can't be parsed."""
    found: dict[str, tuple[str, ...]] = {}
    for volume in volumes:
        if BOOTSTRAPPED_TAG in volume.tags and isinstance(tags.etcd_member(volume.tags), Rejected):
            for key in tags.etcd_clusters(volume.tags):
                found[key] = (*found.get(key, ()), volume.id)
    return found


def _may_be_managed(volume: CloudVolume, cluster_id: str) -> bool:
    return tags.in_cluster(volume.tags, cluster_id) or not tags.cluster_names(volume.tags)


def _without_cluster(unmanaged: tuple[CloudVolume, ...], instance: Instance) -> list[RejectedVolume]:
    """Refuse volumes of this machine that have no cluster's tag: passed over in silence, they would be missed."""
    evidence = f"attached to this machine, with an etcd tag and none that names a cluster ({tags.CLUSTER_TAG})"
    return [
        RejectedVolume(volume.id, _cluster_key(volume), "volume/no-cluster", evidence)
        for volume in unmanaged
        if _is_here(volume, instance) and tags.has_etcd_tag(volume.tags) and not tags.cluster_names(volume.tags)
    ]


def _as_attached_here(volume: CloudVolume, instance: Instance) -> CloudVolume:
    """The volume with the device name that was requested here."""
    # While an attachment elsewhere isn't over, the cloud lists both; a disk is recognised by our own name alone.
    ours, requested = volume.attachment_to(instance.id), volume.identity.requested
    if ours is None or requested is None or requested == ours.device:
        return volume
    return replace(volume, identity=replace(volume.identity, requested=ours.device))


def _unfit(settings: VolumeSettings, volume: CloudVolume, member: EtcdMember) -> Rejected | None:
    if not tags.has_master_role(volume.tags):
        return Rejected("volume/no-role", f"it has an etcd tag, but none of {' or '.join(tags.ROLE_TAGS)}")
    if volume.multi_attach:
        return Rejected("volume/multi-attach", "it can be attached to several instances at once; etcd needs its own")
    if not volume.attachments and volume.status not in USABLE:
        return Rejected("volume/status", f"the cloud says: {volume.status}")
    if member.cluster not in settings.etcd_clusters:
        known = ", ".join(cluster_order(settings.etcd_clusters))
        expected = f"there is no template {member.cluster}.yaml (templates: {known})"
        return Rejected("volume/unknown-etcd-cluster", f"tag {tags.ETCD_TAG_PREFIX}{member.cluster}: {expected}")
    return None


def _cluster_key(volume: CloudVolume) -> str | None:
    keys = tags.etcd_clusters(volume.tags)
    return keys[0] if len(keys) == 1 else None


def _duplicates(accepted: tuple[MemberVolume, ...], evidence: tuple[MemberVolume, ...]) -> list[RejectedVolume]:
    """Refuse the unattached ones of several volumes with the same member: one may be an old snapshot's copy."""
    refused = {one.id for one in evidence}
    groups: dict[tuple[str, str], list[MemberVolume]] = {}
    for one in (*accepted, *evidence):
        groups.setdefault((one.member.cluster, one.member.me), []).append(one)
    return [
        RejectedVolume(
            one.id,
            one.member.cluster,
            "volume/duplicate-member",
            f"member {one.member.me} of etcd cluster {one.member.cluster} also stands on "
            + ", ".join(other.id for other in group if other is not one),
        )
        for group in groups.values()
        if len(group) > 1
        for one in group
        if all(map(_is_unconfirmed, one.volume.attachments)) and one.id not in refused
    ]


def _ours(
    accepted: tuple[MemberVolume, ...], instance: Instance, mounts: tuple[Mount, ...] | Unknown
) -> tuple[dict[str, MemberVolume], list[RejectedVolume]]:
    """This machine's volumes, one per etcd cluster: a mounted one is never displaced by a later attachment."""
    mounted = set() if isinstance(mounts, Unknown) else {mount.target for mount in mounts}
    ours: dict[str, MemberVolume] = {}
    surplus: list[RejectedVolume] = []
    for one in sorted(accepted, key=lambda one: (one.target not in mounted, one.id)):
        if not _is_here(one.volume, instance):
            continue
        first = ours.setdefault(one.member.cluster, one)
        if first is not one:
            evidence = f"{first.id} serves etcd cluster {one.member.cluster} on this machine; one volume per cluster"
            surplus.append(RejectedVolume(one.id, one.member.cluster, "volume/second-of-cluster", evidence))
    return ours, surplus


def _blocked_clusters(
    volumes: Sequence[CloudVolume], ours: Mapping[str, MemberVolume], instance: Instance, cluster_id: str
) -> frozenset[str]:
    """The etcd clusters for which this machine has a refused volume, so that it claims no other."""
    # An operator who repairs the refused volume's tags would otherwise find two volumes of one cluster here.
    serving = {one.id for one in ours.values()}
    return frozenset(
        key
        for volume in volumes
        if _is_here(volume, instance) and volume.id not in serving and _may_be_managed(volume, cluster_id)
        for key in tags.etcd_clusters(volume.tags)
    )


def _refuses_main(rejected: Iterable[RejectedVolume], volumes: Sequence[CloudVolume], instance: Instance) -> bool:
    here = {volume.id for volume in volumes if volume.zone == instance.zone}
    return any(one.cluster == MAIN and one.volume_id in here for one in rejected)


def _candidates(
    key: str, here: Sequence[MemberVolume], ours: Mapping[str, MemberVolume], instance: Instance
) -> tuple[MemberVolume, ...]:
    """Free volumes in order of preference: our instance group's, then the member that we are in `main`, then a hash.

    The hash differs by instance, so that machines that start at the same time request different volumes. A volume
    whose attachment here is unconfirmed counts as free: another request for it tells whose it is.
    """
    main = ours.get(MAIN)

    def order(one: MemberVolume) -> tuple[bool, bool, str]:
        other_member = main is not None and one.member.me != main.member.me
        digest = hashlib.sha256(f"{instance.id}\n{one.id}".encode()).hexdigest()
        return claiming.of_other_group(one, instance), other_member, digest

    free = [one for one in here if one.member.cluster == key and _is_free(one.volume, instance)]
    return tuple(sorted(free, key=order))


def _is_free(volume: CloudVolume, instance: Instance) -> bool:
    unconfirmed = _is_unconfirmed(volume.attachment_to(instance.id)) and len(volume.attachments) == 1
    return volume.available or (unconfirmed and volume.status == "available")


def _holders(key: str, here: Sequence[MemberVolume], instance: Instance) -> dict[str, str]:
    return {
        one.id: one.volume.attachments[0].instance
        for one in here
        if one.member.cluster == key and one.volume.attachments and not one.volume.attachment_to(instance.id)
    }


def _stray(judged: VolumesAssessment, mounts: tuple[Mount, ...]) -> frozenset[str]:
    """Volumes that are mounted at a mount point of ours and aren't known to be this machine's."""
    known = {one.target for one in judged.ours.values()}
    targets = {mount.target for mount in mounts if is_mount_point(mount)}
    return frozenset(target.removeprefix(MOUNT_PREFIX) for target in targets - known)


def _barred(judged: VolumesAssessment, barred: Mapping[str, str]) -> dict[str, str]:
    ways = {one.id: barred.get(MOUNT_DIR) or barred.get(one.target) for one in judged.all}
    return {volume_id: why for volume_id, why in ways.items() if why is not None}


def _refuse(judged: VolumesAssessment) -> None:
    for one in judged.rejected:
        server = judged.ours.get(one.cluster or "")
        serious = server is None or server.id == one.volume_id
        judged.findings.refuse(one.volume_id, one.rule, one.evidence, serious=serious)


def _follow(judged: VolumesAssessment, tracking: AttachTracking, mounts: tuple[Mount, ...] | Unknown) -> None:
    """Report our volumes that are being attached or detached, and those that are stuck."""
    mounted = () if isinstance(mounts, Unknown) else mounts
    for one in judged.ours.values():
        attachment = judged.attachment(one)
        if attachment is None or attachment.state is AttachState.ATTACHED:
            continue
        attaching = attachment.state is AttachState.ATTACHING
        if not tracking.stuck(one.id, Phase.ATTACHING if attaching else Phase.DETACHING):
            judged.findings.wait(one.id, f"the cloud says {attachment.state}")
            continue
        evidence = f"the cloud says {attachment.state}, for more than {DEADLINE:.0f} s"
        if attaching:
            named = f"; the name requested, {attachment.device}, may still be in use on the machine"
            remedy = "detach the volume, and it is attached again; if it hangs again, stop and start the machine"
            evidence = f"{evidence}{named if attachment.device else ''}: {remedy}"
            judged.findings.refuse(one.id, "volume/attach-stuck", evidence)
            continue
        if any(mount.target == one.target for mount in mounted):
            remedy = f"{one.target} is mounted: to let the volume go, end what uses it there, and unmount it"
        else:
            remedy = "end what uses the disk, or detach the volume by force"
        judged.findings.refuse(one.id, "volume/detach-stuck", f"{evidence}; {remedy}")


def _why_announce(cloud: CloudSnapshot, instance: Instance) -> str | None:
    """Why to tell the other nodes this one's addresses; None when they are told the right ones.

    A cloud that knows the addresses by itself always tells the right ones.
    """
    peers = () if isinstance(cloud.peers, Unknown) else cloud.peers
    told = next((peer for peer in peers if peer.instance == instance.id), None)
    if told is None or (told.internal, told.external) == (instance.internal, instance.external):
        return None
    return f"other nodes are told {', '.join((*told.internal, *told.external)) or 'no address'}"
