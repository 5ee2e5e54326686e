"""Claiming: one free volume of this zone for each etcd cluster that this machine lacks, `main` first.

`main` decides which member a machine is. The other etcd clusters choose once its attachment is seen, so that a
machine ends with one member's volumes. A machine that finds every `main` volume of its zone in use elsewhere is a
standby and claims nothing.

Invariant: at most one volume per etcd cluster is requested, however late the cloud's answers are. So nothing is
claimed while any volume may be this machine's and isn't shown as such.
"""

from __future__ import annotations

from collections.abc import Mapping

from protokube.core.model import Unknown
from protokube.core.volumes import tags
from protokube.core.volumes.model import (
    MAIN,
    AttachState,
    Claim,
    CloudSnapshot,
    Coming,
    Instance,
    MemberVolume,
    Obstacle,
    PeerState,
    VolumesAssessment,
    cluster_order,
)
from protokube.core.volumes.tracking import AttachTracking

GROUP_GRACE = 120.0
"""Seconds that a volume made for another instance group is left for that group's machines."""

_UNCONFIRMED = "it was requested, or this machine's a moment ago, and the cloud doesn't show who has it"


def of_other_group(one: MemberVolume, instance: Instance) -> bool:
    """Whether the volume was made for another instance group than this machine's."""
    group = tags.instance_group(one.volume.tags)
    return group is not None and group != instance.instance_group


def coming(judged: VolumesAssessment, cloud: CloudSnapshot) -> Mapping[str, Coming]:
    """The volumes of this zone that will soon be free for this machine without any action, and why.

    They are of the etcd clusters that it lacks; of `main` alone while it lacks that.
    """
    peers = () if isinstance(cloud.peers, Unknown) else cloud.peers
    terminated = {peer.instance for peer in peers if peer.state is PeerState.TERMINATED}
    refused = {one.volume_id for one in judged.rejected}
    found = {}
    for one in judged.all:
        cluster = one.member.cluster
        lacking = cluster not in judged.ours and cluster not in judged.blocked
        # Until it has a `main` volume this machine doesn't know which member it is: no other volume is meant for it.
        lacking = lacking and (cluster == MAIN or MAIN in judged.ours)
        if not lacking or one.id in refused or one.volume.zone != judged.instance.zone or one.volume.available:
            continue
        if why := _why_coming(one, terminated, peers_known=not isinstance(cloud.peers, Unknown)):
            found[one.id] = why
    return found


def _why_coming(one: MemberVolume, terminated: set[str], *, peers_known: bool) -> Coming | None:
    volume = one.volume
    letting_go = (AttachState.DETACHING, AttachState.UNCONFIRMED)
    holders = [attachment.instance for attachment in volume.attachments if attachment.state not in letting_go]
    detaching = [one for one in volume.attachments if one.state is AttachState.DETACHING]
    if not volume.attachments and volume.status == "creating":
        return Coming("it is still being created")
    if not volume.attachments and volume.status == "in-use":
        # EC2's API is eventually consistent (EC2 Developer Guide): status and attachments may be of different times.
        return Coming("the cloud says that it is in use, and doesn't show by which instance", external=True)
    if detaching and not holders:
        return Coming(f"it is being detached from {detaching[0].instance}")
    if holders and terminated.issuperset(holders):
        # EC2 may show a volume as attached to an instance that is terminated (AWS Config's ec2-volume-inuse-check has
        # a case for it). It is free when EC2 has detached it.
        return Coming(f"{holders[0]}, which holds it, is terminated")
    if holders and not peers_known:
        return Coming("whether its holder still runs isn't known", external=True)
    return None


def decide(judged: VolumesAssessment, tracking: AttachTracking, *, mounts_known: bool) -> Claim | None:
    """Decide which volume to request now: at most one a pass, and each once a reconcile.

    Reasons to wait go to the findings.
    """
    findings = judged.findings
    if pending := sorted(tracking.requested - _shown(judged)):
        # An answer can lag behind the request, so the volume may be this machine's. Another request now could get
        # it a second volume of one etcd cluster.
        findings.wait(pending[0], _UNCONFIRMED)
        return None
    if not mounts_known:
        # A mounted volume is this machine's whatever the cloud says; Unknown mounts may include one.
        return None
    refused = {one.volume_id for one in judged.rejected}
    # A volume that lost its tags or its attachment may still run a member here: a second one would be its rival.
    if stray := sorted(judged.stray - refused):
        reason = "mounted here, and no volume of this machine; nothing is claimed beside it"
        findings.wait(stray[0], reason, external=True)
        return None
    if judged.unconfirmed:
        return _request_again(judged, tracking)
    for volume_id, why in judged.coming.items():
        findings.wait(volume_id, why.reason, external=why.external)
    for key in cluster_order(judged.candidates):
        # A `main` volume that comes later decides the member, and the other etcd clusters follow it.
        if key != MAIN and (not judged.others_may_choose or (judged.coming and MAIN not in judged.ours)):
            return None
        candidates = judged.candidates[key]
        if any(one.id in tracking.failed - tracking.denied for one in candidates):
            # The failure wasn't this volume's own: it would hit the next candidate too, or passes in a moment.
            return None
        for one in [one for one in candidates if _is_ready(one, judged, tracking)]:
            if (obstacle := _obstacle(one, judged)) is None:
                return _claim(judged, one)
            # An obstacle that passes may hide that the volume is this machine's already: the next would be a second.
            if not _is_refused(one, obstacle, judged):
                return None
        # A standby is converged: it waits for nothing, so this is a hint.
        may_serve = candidates or judged.coming or key in judged.blocked
        if key == MAIN and judged.in_use_elsewhere[key] and not may_serve:
            findings.hints.append("standby: other nodes hold every main volume of this zone")
    return None


def _shown(judged: VolumesAssessment) -> set[str]:
    """The volumes that the cloud shows as attached to an instance, this one or another."""
    return {
        one.id
        for one in judged.all
        if any(attachment.state is not AttachState.UNCONFIRMED for attachment in one.volume.attachments)
    }


def _request_again(judged: VolumesAssessment, tracking: AttachTracking) -> Claim | None:
    """Request a volume that may be this machine's: the cloud's answer tells whose it is. No other is requested."""
    for key in cluster_order(judged.candidates):
        for one in judged.candidates[key]:
            if one.id in judged.unconfirmed and one.id not in tracking.failed:
                if (obstacle := _obstacle(one, judged)) is None:
                    return _claim(judged, one)
                _is_refused(one, obstacle, judged)
                return None
    judged.findings.wait(min(judged.unconfirmed), _UNCONFIRMED)
    return None


def _is_ready(one: MemberVolume, judged: VolumesAssessment, tracking: AttachTracking) -> bool:
    if one.id in tracking.failed:
        return False
    if of_other_group(one, judged.instance) and tracking.uptime < GROUP_GRACE:
        group = tags.instance_group(one.volume.tags)
        judged.findings.wait(one.id, f"left for instance group {group} for {GROUP_GRACE:.0f} s", external=True)
        return False
    return True


def _obstacle(one: MemberVolume, judged: VolumesAssessment) -> Obstacle | None:
    """What keeps a volume from being attached and mounted here."""
    barred = judged.barred.get(one.id)
    return one.volume.obstacle if barred is None else Obstacle(barred, "mount/path")


def _is_refused(one: MemberVolume, obstacle: Obstacle, judged: VolumesAssessment) -> bool:
    """Report an obstacle. True when only an operator can clear it."""
    if obstacle.rule is None:
        judged.findings.wait(one.id, obstacle.reason)
    else:
        judged.findings.refuse(one.id, obstacle.rule, obstacle.reason)
    return obstacle.rule is not None


def _claim(judged: VolumesAssessment, one: MemberVolume) -> Claim:
    reason = f"member {one.member.me} of etcd cluster {one.member.cluster} is free in zone {judged.instance.zone}"
    return Claim(one, reason)
