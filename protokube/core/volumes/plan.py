"""Claiming: one free volume of this zone for each etcd cluster that this machine lacks, `main` first."""

from __future__ import annotations

from protokube.core.model import Unknown
from protokube.core.observed import Observed
from protokube.core.steps import Plan
from protokube.core.volumes.actions import AnnounceAddresses, AttachVolume
from protokube.core.volumes.assess import Desired, is_place, other_group
from protokube.core.volumes.model import (
    FIRST,
    MAIN,
    MOUNT_PREFIX,
    AttachState,
    MemberVolume,
    PeerState,
    cluster_order,
)
from protokube.core.volumes.tags import instance_group

NAME_PATIENCE = 30.0
"""Seconds after which a device name that the cloud calls in use, and never shows as used, is passed over."""

_HIDDEN = "it was asked for, or this machine's a moment ago, and the cloud doesn't show who has it"
_IN_USE = "the cloud says that it is in use, and doesn't show by whom"
_UNREAD = "whether its holder still runs isn't known"

GROUP_GRACE = 120.0
"""Seconds that a volume made for another instance group is left for that group's machines."""


def plan_volumes(observed: Observed, desired: Desired, plan: Plan) -> None:
    """Report what is refused, wait for what is under way, and claim at most one volume a pass, each once a round.

    `main` decides which member a machine is: only when its attachment is seen do the other etcd clusters choose, so
    that a machine ends with one member's volumes. A machine that finds every `main` volume of its zone held is a
    standby and claims nothing.
    """
    for one in desired.rejected:
        server = desired.held.get(one.cluster or "")
        plan.refuse(one.volume_id, one.rule, one.evidence, serious=server is None or server.id == one.volume_id)
    _announce(observed, desired, plan)
    assert not isinstance(observed.volumes, Unknown)
    shown = {volume.id for volume in observed.volumes if volume.attachments}
    if hidden := sorted(observed.asked - shown):
        # It may be our own: a describe can lag behind the attach. Another one now could be a second of its kind.
        plan.wait(hidden[0], _HIDDEN)
        return
    if isinstance(observed.mounts, Unknown):
        return
    refused = {one.volume_id for one in desired.rejected}
    if hidden := sorted(strangers(observed, desired) - refused):
        plan.wait(hidden[0], "mounted here, and no volume of this machine; nothing is claimed beside it", theirs=True)
        return
    if observed.hidden:
        _ask_again(observed, desired, plan)
        return
    soon = coming(observed, desired)
    for volume_id, why in soon.items():
        plan.wait(volume_id, why, theirs=why in (_IN_USE, _UNREAD))
    for key in cluster_order(desired.candidates):
        if key != MAIN and (not desired.others_may_choose or (soon and MAIN not in desired.held)):
            return
        if any(mine.id in observed.failed - observed.refused for mine in desired.candidates[key]):
            return  # what failed there would fail with the next one as well, or works again in a moment
        ready = _ready(observed, desired, desired.candidates[key], plan)
        if ready:
            _claim(observed, desired, ready[0], plan)
            return
        if key == MAIN and desired.elsewhere[key] and not (desired.candidates[key] or soon):
            plan.notes.append("standby: other nodes hold every main volume of this zone")


def coming(observed: Observed, desired: Desired) -> dict[str, str]:
    """Volumes of this zone that will be free for this machine soon, without anybody's doing, and what they wait for.

    Of the etcd clusters that it lacks, and of `main` alone while it lacks that.
    """
    peers = () if isinstance(observed.peers, Unknown) else observed.peers
    gone = {peer.instance for peer in peers if peer.state is PeerState.GONE}
    refused = {one.volume_id for one in desired.rejected}
    found = {}
    for mine in desired.all:
        volume, cluster = mine.volume, mine.member.cluster
        lacking = cluster not in desired.held and cluster not in desired.blocked
        lacking = lacking and (cluster == MAIN or MAIN in desired.held)
        if not lacking or mine.id in refused or volume.zone != desired.instance.zone or volume.available:
            continue
        holders = [one.instance for one in volume.attachments if one.state is not AttachState.DETACHING]
        if not volume.attachments and volume.status == "creating":
            found[mine.id] = "it is still being created"
        elif not volume.attachments and volume.status == "in-use":
            found[mine.id] = _IN_USE
        elif volume.attachments and not holders:
            found[mine.id] = f"it is being detached from {volume.attachments[0].instance}"
        elif holders and gone.issuperset(holders):
            found[mine.id] = f"{holders[0]}, which holds it, is terminated"
        elif holders and isinstance(observed.peers, Unknown):
            found[mine.id] = _UNREAD
    return found


def _ask_again(observed: Observed, desired: Desired, plan: Plan) -> None:
    """While a volume that may be ours is hidden, only that very one may be asked for: the cloud tells whose it is."""
    for key in cluster_order(desired.candidates):
        for mine in desired.candidates[key]:
            if mine.id in observed.hidden and mine.id not in observed.failed:
                _claim(observed, desired, mine, plan)
                return
    plan.wait(min(observed.hidden), _HIDDEN)


def strangers(observed: Observed, desired: Desired) -> set[str]:
    """The volumes that stand mounted in one of our places, and aren't known to serve this machine."""
    mounts = () if isinstance(observed.mounts, Unknown) else observed.mounts
    known = {mine.target for mine in desired.held.values()}
    targets = {mount.target for mount in mounts if is_place(mount)}
    return {target.removeprefix(MOUNT_PREFIX) for target in targets - known}


def _announce(observed: Observed, desired: Desired, plan: Plan) -> None:
    """Correct what other nodes are told about this one; a cloud that knows by itself never tells anything else."""
    instance = desired.instance
    peers = () if isinstance(observed.peers, Unknown) else observed.peers
    told = next((peer for peer in peers if peer.instance == instance.id), None)
    if told is None or (told.internal, told.external) == (instance.internal, instance.external):
        return
    action = AnnounceAddresses(instance.id, instance.internal, instance.external)
    was = ", ".join((*told.internal, *told.external)) or "no address"
    plan.step(observed, action, f"other nodes are told {was}")


def _ready(
    observed: Observed, desired: Desired, candidates: tuple[MemberVolume, ...], plan: Plan
) -> list[MemberVolume]:
    ready = []
    for mine in candidates:
        if mine.id in observed.failed:
            continue
        if other_group(mine, desired.instance) and observed.uptime < GROUP_GRACE:
            group = instance_group(mine.volume.tags)
            plan.wait(mine.id, f"left for instance group {group} for {GROUP_GRACE:.0f} s", theirs=True)
            continue
        ready.append(mine)
    return ready


def _claim(observed: Observed, desired: Desired, mine: MemberVolume, plan: Plan) -> None:
    device = None
    if desired.instance.device_names:
        if isinstance(observed.kernel_devices, Unknown):
            plan.ignorance(mine.id, f"device names in use: {observed.kernel_devices.reason}")
            return
        doubtful = observed.kernel_devices | desired.instance.doubtful_devices
        used = desired.instance.used_devices | (doubtful - observed.taken_devices.keys())
        free = [name for name in _names_for(mine.member.cluster, desired.instance.device_names) if name not in used]
        device = next((name for name in free if observed.taken_devices.get(name, 0.0) < NAME_PATIENCE), None)
        if device is None:
            taken = ", ".join(sorted(used | observed.taken_devices.keys()))
            plan.refuse(mine.id, "volume/no-device-name", f"all device names are in use: {taken}")
            return
        if device in observed.taken_devices:
            # By a volume of ours, perhaps, that isn't shown yet: another one could be a second of its kind.
            plan.wait(mine.id, f"{device} is in use, and the cloud doesn't show by what")
            return
    member = f"member {mine.member.me} of etcd cluster {mine.member.cluster}"
    plan.step(
        observed, AttachVolume(mine.id, device), f"{member} is free in zone {desired.instance.zone}", volume=mine.id
    )


def _names_for(cluster: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names in the order of an etcd cluster: `main` begins with the first, `events` with the second.

    So two volumes of one cluster are asked for under one name, and the cloud itself refuses the second, even when
    its answers don't show the first.
    """
    first = FIRST.get(cluster, len(FIRST)) % len(names)
    return names[first:] + names[:first]
