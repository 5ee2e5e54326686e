"""From an attached volume to a mounted filesystem: format only what is proven blank, check, grow, mount.

The order of questions is the order of danger: first whether this is the right disk at all, then what stands on
it, and only then what may be done to it.
"""

from __future__ import annotations

from protokube.core.disks.actions import CheckFilesystem, FormatVolume, GrowFilesystem, MountVolume
from protokube.core.disks.identity import IDENTITY_PATH, foreign_entries, is_empty, kops_manifest, parse_identity
from protokube.core.disks.model import Blank, Disk, Ext4, Intent, Mount, Mounted, NoDisk, NotBlank, Tree, Working
from protokube.core.etcd.model import EtcdTemplate
from protokube.core.model import MIB, Rejected, Unknown
from protokube.core.node.model import OnVolume
from protokube.core.observed import Observed
from protokube.core.settings import NodeConfig
from protokube.core.steps import Plan
from protokube.core.volumes.assess import Desired, is_place
from protokube.core.volumes.model import BOOTSTRAPPED_TAG, FILESYSTEM_TAG, MOUNT_PREFIX, AttachState, MemberVolume
from protokube.core.volumes.plan_arrivals import await_disk

GROW_BY = 128 * MIB
"""A filesystem is grown when its disk is larger by at least this much (one ext4 block group at 4 KiB blocks)."""

_LABEL_LENGTH = 16
"""ext4's volume name holds 16 bytes (mke2fs(8))."""


def attached(desired: Desired) -> list[MemberVolume]:
    """Our volumes whose attachment is complete."""
    return [
        mine
        for mine in desired.held.values()
        if (attachment := mine.volume.attachment_to(desired.instance.id)) and attachment.state is AttachState.ATTACHED
    ]


def mount_of(observed: Observed, mine: MemberVolume) -> OnVolume | None:
    """Where a volume is mounted, when this very disk stands at its own mount point; None otherwise."""
    disk = observed.disks.get(mine.id)
    if isinstance(observed.mounts, Unknown) or not isinstance(disk, Disk) or not isinstance(disk.content, Mounted):
        return None
    here = any(mount.target == mine.target and mount.number == disk.number for mount in observed.mounts)
    return OnVolume(mine.target, disk.number) if here else None


def plan_disks(config: NodeConfig, observed: Observed, desired: Desired, plan: Plan) -> None:
    """Plan the next action for the disk of each attached volume of ours."""
    if isinstance(observed.mounts, Unknown):
        plan.ignorance("mounts", observed.mounts.reason)
        return
    for mine in attached(desired):
        disk = observed.disks.get(mine.id)
        occupant = next((mount for mount in observed.mounts if mount.target == mine.target), None)
        if disk is None:
            continue
        if isinstance(disk, Unknown):
            plan.ignorance(mine.id, disk.reason)
        elif isinstance(disk, NoDisk):
            if occupant:
                plan.refuse(mine.id, "volume/disk-lost", f"{mine.target} is mounted, but the disk is gone")
            else:
                await_disk(observed, mine, disk, plan)
        elif isinstance(disk.content, Mounted):
            _judge_mount(observed, mine, disk, plan)
        elif occupant:
            plan.refuse(mine.id, "mount/occupied", f"another device {occupant.number} is mounted at {mine.target}")
        else:
            _prepare(config, observed, desired, mine, disk, plan)
    _report_strangers(observed.mounts, desired, plan)


def _report_strangers(mounts: tuple[Mount, ...], desired: Desired, plan: Plan) -> None:
    """Volumes that are mounted in our places, and by tags or attachment are no longer ours. Nothing is undone."""
    known = {mine.target for mine in desired.held.values()}
    known |= {MOUNT_PREFIX + one.volume_id for one in desired.rejected}
    for target in sorted({mount.target for mount in mounts if is_place(mount)} - known):
        volume_id = target.removeprefix(MOUNT_PREFIX)
        evidence = f"{target} is mounted, but by its tags or its attachment the volume no longer belongs to this node"
        plan.refuse(volume_id, "volume/not-ours", evidence)


def _judge_mount(observed: Observed, mine: MemberVolume, disk: Disk, plan: Plan) -> None:
    assert not isinstance(observed.mounts, Unknown)
    mounts = [mount for mount in observed.mounts if mount.number == disk.number]
    ours = next((mount for mount in mounts if mount.target == mine.target), None)
    if ours is None:
        where = ", ".join(mount.target for mount in mounts) or "a place outside the root or its partitions"
        plan.refuse(mine.id, "mount/elsewhere", f"{disk.device} is in use at {where}, expected {mine.target}")
    elif trouble := mount_trouble(ours):
        plan.refuse(mine.id, "volume/unhealthy", f"{mine.target}: {trouble}")


def mount_trouble(mount: Mount) -> str | None:
    """What is wrong with a mounted filesystem, judged without I/O, since I/O on a dead disk hangs."""
    if mount.fstype != "ext4":
        return f"the filesystem is {mount.fstype}, expected ext4"
    if mount.shutdown:
        return "the kernel shut the filesystem down after an error"
    if mount.read_only:
        return "the filesystem is mounted read-only"
    if mount.errors:
        return f"the kernel counted {mount.errors} filesystem errors; run e2fsck on the unmounted volume"
    return None


def _prepare(
    config: NodeConfig, observed: Observed, desired: Desired, mine: MemberVolume, disk: Disk, plan: Plan
) -> None:
    if disk.size != mine.volume.size:
        evidence = f"{disk.device} has {disk.size} bytes, the cloud says {mine.volume.size}"
        plan.refuse(mine.id, "volume/size", evidence)
        return
    match disk.content:
        case Working(tool):
            plan.wait(mine.id, f"{tool} is at work on {disk.device}")
        case NotBlank(evidence):
            plan.refuse(mine.id, "format/not-blank", f"{disk.device}: {evidence}")
        case Blank():
            _format(config, observed, desired, mine, disk, disk.content, plan)
        case Ext4():
            _use(config, observed, desired, mine, disk, disk.content, plan)


def _format(
    config: NodeConfig, observed: Observed, desired: Desired, mine: MemberVolume, disk: Disk, blank: Blank, plan: Plan
) -> None:
    intent = Intent(desired.cluster_id, mine.member.cluster, mine.member.me, mine.id, disk.size, mine.uuid)
    if known := mine.volume.tags.get(FILESYSTEM_TAG):
        evidence = f"{disk.device} is blank, but the volume is tagged {FILESYSTEM_TAG}={known}: data was lost"
        plan.refuse(mine.id, "volume/lost-filesystem", evidence)
    elif mine.marked_bootstrapped:
        evidence = f"{disk.device} is blank, but the volume is tagged {BOOTSTRAPPED_TAG}: data was lost"
        plan.refuse(mine.id, "volume/lost-filesystem", evidence)
    elif blank.resumes is not None and blank.resumes != intent:
        evidence = f"an interrupted format of {blank.resumes} stands on {disk.device}, expected {intent}"
        plan.refuse(mine.id, "format/other-intent", evidence)
    elif not config.may_format:
        plan.refuse(mine.id, "format/forbidden", f"{disk.device} is blank, and --no-format is set")
    else:
        template = config.templates[mine.member.cluster]
        label = template.member_name(mine.member.me)[:_LABEL_LENGTH]
        reason = "an interrupted format is repeated" if blank.resumes else "the disk is proven blank"
        action = FormatVolume(mine.id, disk.device, disk.number, disk.size, mine.volume.identity, intent, label)
        plan.step(observed, action, reason, volume=mine.id)


def _use(
    config: NodeConfig, observed: Observed, desired: Desired, mine: MemberVolume, disk: Disk, found: Ext4, plan: Plan
) -> None:
    if refused := judge_filesystem(config, desired, mine, found.uuid, found.tree):
        plan.refuse(mine.id, refused.rule, refused.evidence)
        return
    if isinstance(found.tree, Unknown):
        plan.ignorance(mine.id, found.tree.reason)
        return
    ground = (mine.id, disk.device, disk.number, disk.size, mine.volume.identity, found.uuid)
    if found.check_failed:
        plan.refuse(mine.id, "filesystem/check-failed", f"{disk.device}: {found.check_failed}")
    elif found.used and not found.checked:
        plan.step(observed, CheckFilesystem(*ground), "it was mounted before", volume=mine.id)
    elif disk.size - found.size >= GROW_BY:
        if found.checked:
            reason = f"the filesystem has {found.size} bytes, the disk {disk.size}"
            plan.step(observed, GrowFilesystem(*ground), reason, volume=mine.id)
        else:
            plan.step(observed, CheckFilesystem(*ground), "it is to be grown", volume=mine.id)
    else:
        reason = "the filesystem is new" if not found.used else "the filesystem passed its check"
        plan.step(observed, MountVolume(*ground, mine.target), reason, volume=mine.id)


def judge_filesystem(
    config: NodeConfig, desired: Desired, mine: MemberVolume, uuid: str, tree: Tree | Unknown
) -> Rejected | None:
    """Whether a filesystem may serve a member: by its UUID, the volume's tags and what it holds.

    A first look without the journal may show too little, never too much, so it is right to refuse on it.
    """
    tagged = mine.volume.tags.get(FILESYSTEM_TAG)
    if tagged is not None and tagged != uuid:
        evidence = f"the filesystem's UUID is {uuid}, the volume is tagged {FILESYSTEM_TAG}={tagged}"
        return Rejected("volume/identity", evidence)
    if clone := _clone_of(desired, mine, uuid):
        return Rejected(
            "volume/clone", f"the filesystem {uuid} was made for volume {clone}: a clone or restored snapshot"
        )
    if isinstance(tree, Unknown):
        return None
    template = config.templates[mine.member.cluster]
    if {IDENTITY_PATH, IDENTITY_PATH + "/"} & tree.entries and IDENTITY_PATH not in tree.texts:
        return Rejected("volume/identity", f"{IDENTITY_PATH} is no plain file that can be read")
    if IDENTITY_PATH in tree.texts:
        return _judge_identity_text(desired, mine, uuid, tree.texts[IDENTITY_PATH])
    if foreign := foreign_entries(tree, template):
        listed = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        return Rejected("volume/foreign-data", f"the volume holds {listed}, which neither protokube nor kops makes")
    return _judge_adoption(mine, uuid, tree, template)


def _judge_adoption(mine: MemberVolume, uuid: str, tree: Tree, template: EtcdTemplate) -> Rejected | None:
    if uuid == mine.uuid:
        return None
    if is_empty(tree):
        evidence = f"an empty ext4 filesystem with UUID {uuid} that protokube did not make (expected {mine.uuid})"
        return Rejected("volume/unknown-filesystem", evidence)
    kops = kops_manifest(tree, mine.member, template)
    if isinstance(kops, Rejected):
        return kops
    if kops is None:
        evidence = (
            f"the volume holds {', '.join(sorted(tree.entries)[:5])} without the manifest that says whose it is"
        )
        return Rejected("volume/foreign-data", evidence)
    return None


def _judge_identity_text(desired: Desired, mine: MemberVolume, uuid: str, text: str) -> Rejected | None:
    identity = parse_identity(text)
    if isinstance(identity, Rejected):
        return identity
    if identity.volume_id != mine.id:
        evidence = f"{IDENTITY_PATH} says volume {identity.volume_id}: a clone or restored snapshot"
        return Rejected("volume/clone", evidence)
    wanted = (desired.cluster_id, mine.member.cluster, mine.member.me, uuid)
    if wanted != (identity.cluster_id, identity.etcd_cluster, identity.member, identity.filesystem):
        said = f"{identity.cluster_id}, {identity.etcd_cluster}/{identity.member}, filesystem {identity.filesystem}"
        evidence = (
            f"{IDENTITY_PATH} says {said}; tags and disk say {wanted[0]}, {wanted[1]}/{wanted[2]}, filesystem {uuid}"
        )
        return Rejected("volume/identity", evidence)
    return None


def _clone_of(desired: Desired, mine: MemberVolume, uuid: str) -> str | None:
    return next((other.id for other in desired.all if other.id != mine.id and other.uuid == uuid), None)
