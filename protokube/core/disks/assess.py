"""From an attached volume to a mounted filesystem: the next step on its disk.

The order of the checks is the order of danger: first that this is the right disk, then what stands on it, and only
then what may be done to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from protokube.core.disks.accepted import Acceptance, Accepted, Ownership, used_up
from protokube.core.disks.model import (
    Blank,
    Disk,
    DisksAssessment,
    DiskSettings,
    Ext4,
    Intent,
    Mounted,
    NoDisk,
    NotBlank,
    StorageFacts,
    Todo,
    Verdict,
    Working,
)
from protokube.core.disks.ownership import judge_ownership
from protokube.core.model import MIB, Unknown
from protokube.core.node.model import Mount, OnVolume
from protokube.core.steps import AcceptedRefusal, Findings
from protokube.core.volumes.model import (
    BOOTSTRAPPED_TAG,
    FILESYSTEM_TAG,
    MOUNT_PREFIX,
    AttachState,
    MemberVolume,
    VolumesAssessment,
    is_mount_point,
)
from protokube.core.volumes.tracking import DEADLINE, AttachTracking, Phase

GROW_BY = 128 * MIB
"""A filesystem is grown when its disk is larger by at least this much (one ext4 block group at 4 KiB blocks)."""

_LABEL_LENGTH = 16
"""ext4's volume name holds 16 bytes (mke2fs(8))."""


Before = tuple[VolumesAssessment, Accepted]
"""The judgement of the volumes, and what the operator has accepted."""


def assess(
    settings: DiskSettings, storage: StorageFacts, tracking: AttachTracking, before: Before
) -> DisksAssessment:
    """Judge the disk of each of this machine's volumes."""
    volumes, accepted = before
    attached = tuple(one for one in volumes.ours.values() if _is_attached(volumes, one))
    findings = Findings()
    if isinstance(storage.mounts, Unknown):
        findings.not_known("mounts", storage.mounts.reason)
        return DisksAssessment(attached, findings=findings)
    ownerships = {one.id: found for one in attached if (found := _ownership(settings, storage, before, one))}
    judge = _Judge(settings, storage.mounts, tracking, volumes, ownerships, findings)
    mounted: dict[str, OnVolume] = {}
    unhealthy: set[str] = set()
    verdicts: list[Verdict] = []
    for one in attached:
        disk = storage.disks.get(one.id)
        if isinstance(disk, Disk) and isinstance(disk.content, Mounted):
            if (where := judge.mounted(one, disk)) is not None:
                mounted[one.id] = where
        elif disk is not None and (verdict := judge.unmounted(one, disk)) is not None:
            verdicts.append(verdict)
        if any(mount.target == one.target and mount_trouble(mount) for mount in storage.mounts):
            unhealthy.add(one.id)
    _report_stray(storage.mounts, volumes, findings)
    ended = used_up(accepted, ownerships)
    _report_accepted(accepted, ended, findings)
    healthy = [one for one in attached if one.id in mounted and one.id not in unhealthy]
    cut_off = tuple(_cut_off(storage, [one for one in healthy if not _is_barred(ownerships, one)], findings))
    unread = frozenset(id_ for id_ in mounted if isinstance(storage.contents.get(id_), Unknown))
    return DisksAssessment(
        attached, mounted, frozenset(unhealthy), unread, tuple(verdicts), ownerships, ended, cut_off, findings
    )


def _is_barred(ownerships: Mapping[str, Ownership], one: MemberVolume) -> bool:
    owned = ownerships.get(one.id)
    return owned is not None and owned.barring is not None


def _cut_off(
    storage: StorageFacts, mounted: list[MemberVolume], findings: Findings
) -> Iterator[tuple[MemberVolume, str]]:
    """First starts of etcd that were cut off: from a log without entries it never serves."""
    for one in mounted:
        contents = storage.contents.get(one.id)
        if contents is None or isinstance(contents, Unknown):
            continue
        for data_dir, held in sorted(contents.cut_off.items()):
            if not held:
                yield one, data_dir
                continue
            findings.wait(
                one.id,
                f"etcd's log in {data_dir} has no entry yet: etcd has just started, or its first start was cut off, "
                "and it never serves; then the log is put aside as soon as no etcd holds it: stop its container",
                external=True,
            )


def _ownership(settings: DiskSettings, storage: StorageFacts, before: Before, one: MemberVolume) -> Ownership | None:
    """Whose filesystem a volume has; None where none can be read."""
    volumes, accepted = before
    expected = settings.expected(volumes.cluster_id, one.member.cluster)
    disk = storage.disks.get(one.id)
    match disk.content if isinstance(disk, Disk) else None:
        case Ext4(uuid=uuid, contents=contents):
            mounted = False
        case Mounted():
            contents, mounted = storage.contents.get(one.id, Unknown("not read")), True
            found = None if isinstance(contents, Unknown) else contents.uuid
            if found is None:
                return None
            uuid = found
        case _:
            return None
    refused = tuple(judge_ownership(volumes, one, expected, (uuid, contents)))
    has_data = not isinstance(contents, Unknown) and expected.layout.has_data(contents)
    return Ownership(uuid, refused, accepted.of(one.id, uuid), has_data=has_data, mounted=mounted)


def _report_accepted(accepted: Accepted, ended: tuple[tuple[Acceptance, str], ...], findings: Findings) -> None:
    gone = {one for one, _ in ended}
    findings.accepted += [
        AcceptedRefusal(one.volume_id, one.rule, one.filesystem) for one in accepted.pending if one not in gone
    ]
    for path, fault in accepted.unparsable.items():
        findings.not_known(path, f"{fault}; remove it, and accept again")


def _is_attached(volumes: VolumesAssessment, one: MemberVolume) -> bool:
    attachment = volumes.attachment(one)
    return attachment is not None and attachment.state is AttachState.ATTACHED


def mount_trouble(mount: Mount) -> str | None:
    """The trouble of a mounted filesystem, judged by mountinfo and sysfs alone: I/O on a dead disk hangs."""
    if mount.cover is not None:
        return f"it is hidden by {mount.cover}: unmount that"
    if mount.fstype != "ext4":
        return f"the filesystem is {mount.fstype}, expected ext4"
    if mount.shutdown:
        return "the kernel shut the filesystem down after an error"
    if mount.read_only:
        return "the filesystem is mounted read-only"
    if mount.errors:
        return f"the kernel counted {mount.errors} filesystem errors; run e2fsck on the unmounted volume"
    return None


def _report_stray(mounts: tuple[Mount, ...], volumes: VolumesAssessment, findings: Findings) -> None:
    """Refuse mounted volumes that by tags or attachment are no longer ours."""
    # They stay mounted: etcd may run on one, and a cloud's answer may be wrong for a moment.
    known = {one.target for one in volumes.ours.values()}
    known |= {MOUNT_PREFIX + one.volume_id for one in volumes.rejected}
    for target in sorted({mount.target for mount in mounts if is_mount_point(mount)} - known):
        evidence = f"{target} is mounted, but by its tags or its attachment the volume no longer belongs to this node"
        findings.refuse(target.removeprefix(MOUNT_PREFIX), "volume/not-ours", evidence)


class _Judge(Struct, frozen=True):
    """Judges one disk after the other; refusals and waits go to `findings`."""

    settings: DiskSettings
    mounts: tuple[Mount, ...]
    tracking: AttachTracking
    volumes: VolumesAssessment
    ownerships: Mapping[str, Ownership]
    findings: Findings

    def mounted(self, one: MemberVolume, disk: Disk) -> OnVolume | None:
        """The mount point of a mounted disk; None, with a refusal, when it isn't the volume's own."""
        mounts = [mount for mount in self.mounts if mount.number == disk.number]
        ours = next((mount for mount in mounts if mount.target == one.target), None)
        if ours is None:
            where = ", ".join(mount.target for mount in mounts) or "a path outside the root or its partitions"
            rule, evidence = "mount/elsewhere", f"{disk.device} is in use at {where}, expected {one.target}"
            cover = next((mount for mount in self.mounts if mount.target == one.target), None)
            if cover is not None and not mounts:
                rule, evidence = "mount/covered", f"{disk.device} is in use, and {_shown(cover)}: unmount that"
            self.findings.refuse(one.id, rule, evidence)
            return None
        # It stays mounted: etcd may run on it, and only an operator can tell whether to stop that.
        if trouble := mount_trouble(ours):
            rule = "mount/covered" if ours.cover else "volume/unhealthy"
            self.findings.refuse(one.id, rule, f"{one.target}: {trouble}")
        return OnVolume(one.target, disk.number)

    def unmounted(self, one: MemberVolume, disk: Disk | NoDisk | Unknown) -> Verdict | None:
        """Judge an unmounted disk: decide its next step, or refuse it."""
        occupant = next((mount for mount in self.mounts if mount.target == one.target), None)
        if isinstance(disk, Unknown):
            self.findings.not_known(one.id, disk.reason)
        elif isinstance(disk, NoDisk):
            self._missing(one, disk, occupant)
        elif occupant:
            # A second mount at this path would hide the first one's files.
            evidence = f"another device {occupant.number} is mounted at {one.target}"
            self.findings.refuse(one.id, "mount/occupied", evidence)
        elif barred := self.volumes.barred.get(one.id):
            self.findings.refuse(one.id, "mount/path", barred)
        elif disk.size != one.volume.size:
            # The kernel and the cloud agree to the byte on a volume's own disk; else this may be another disk.
            evidence = f"{disk.device} has {disk.size} bytes, the cloud says {one.volume.size}"
            self.findings.refuse(one.id, "volume/size", evidence)
        elif disk.read_only:
            evidence = (
                f"{disk.device} is write-protected: make it writable (blockdev --setrw {disk.device}, or its switch)"
            )
            self.findings.refuse(one.id, "disk/write-protected", evidence)
        else:
            return self._content(one, disk)
        return None

    def _missing(self, one: MemberVolume, missing: NoDisk, occupant: Mount | None) -> None:
        if occupant:
            evidence = f"{one.target} is mounted, but the disk is gone"
            self.findings.refuse(one.id, "volume/disk-lost", evidence)
        elif self.tracking.stuck(one.id, Phase.NO_DISK):
            evidence = f"attached, and no disk has appeared within {DEADLINE:.0f} s: {missing.hint}"
            self.findings.refuse(one.id, "volume/no-disk", f"{evidence}. As soon as it appears, it is used")
        else:
            self.findings.wait(one.id, f"attached; the disk has not appeared yet: {missing.hint}")

    def _content(self, one: MemberVolume, disk: Disk) -> Verdict | None:
        match disk.content:
            case Working(tool):
                # Whatever is read meanwhile may be half of the tool's writes.
                self.findings.wait(one.id, f"{tool} is at work on {disk.device}")
            case NotBlank(evidence):
                self.findings.refuse(one.id, "format/not-blank", f"{disk.device}: {evidence}")
            case Blank():
                return self._blank(one, disk, disk.content)
            case Ext4():
                return self._filesystem(one, disk, disk.content)
        return None

    def _blank(self, one: MemberVolume, disk: Disk, blank: Blank) -> Verdict | None:
        member = one.member
        intent = Intent(self.volumes.cluster_id, member.cluster, member.me, one.id, disk.size, one.uuid)
        known = one.volume.tags.get(FILESYSTEM_TAG)
        if known or one.marked_bootstrapped:
            # A format would hide the loss: the member would start empty, and its cluster count it as the old one.
            tag = f"{FILESYSTEM_TAG}={known}" if known else BOOTSTRAPPED_TAG
            evidence = f"{disk.device} is blank, but the volume is tagged {tag}: data was lost"
            self.findings.refuse(one.id, "volume/lost-filesystem", evidence)
        elif blank.resumes is not None and blank.resumes != intent:
            # Another volume's intent: the disk was swapped, copied, or its volume's tags were changed.
            evidence = f"an interrupted format of {blank.resumes} stands on {disk.device}, expected {intent}"
            self.findings.refuse(one.id, "format/other-intent", evidence)
        elif not self.settings.may_format:
            self.findings.refuse(one.id, "format/forbidden", f"{disk.device} is blank, and --no-format is set")
        else:
            label = self.settings.layouts[member.cluster].member_name(member.me)[:_LABEL_LENGTH]
            reason = "an interrupted format is repeated" if blank.resumes else "the disk is proven blank"
            return Verdict(one, disk, Todo.FORMAT, reason, one.uuid, intent, label)
        return None

    def _filesystem(self, one: MemberVolume, disk: Disk, found: Ext4) -> Verdict | None:
        owned = self.ownerships[one.id]

        def verdict(todo: Todo, reason: str) -> Verdict:
            if owned.overruled:
                reason = f"{reason}; {' and '.join(owned.overruled)}: overruled by the operator"
            return Verdict(one, disk, todo, reason, found.uuid, warning=bool(owned.overruled))

        if found.needs_recovery and not found.check_failed and self._is_known(one, found):
            # After a power cut debugfs sees blocks of different times, and healthy contents look damaged. e2fsck
            # replays the journal, which writes: so only on a filesystem that its UUID shows to be ours.
            return verdict(Todo.CHECK, "its journal was not replayed")
        if found.damaged and not found.check_failed:
            if self._is_known(one, found):
                return verdict(Todo.CHECK, f"it is damaged: {found.damaged}")
            evidence = (
                f"{disk.device}: a damaged filesystem that protokube did not make: {found.damaged}; run e2fsck on it"
            )
            self.findings.refuse(one.id, "filesystem/damaged", evidence)
            return None
        # Ownership comes first: on another's filesystem nothing is run, whatever e2fsck says of it.
        if refused := owned.barring:
            self.findings.refuse(one.id, refused.rule, refused.evidence)
            return None
        if found.check_failed:
            self.findings.refuse(one.id, "filesystem/check-failed", f"{disk.device}: {found.check_failed}")
            return None
        if isinstance(found.contents, Unknown):
            self.findings.not_known(one.id, found.contents.reason)
            return None
        if found.used and not found.checked:
            # A mount can add to the damage of a filesystem (e2fsck(8)), and nothing checks it once it is in use.
            return verdict(Todo.CHECK, "it was mounted before")
        if disk.size - found.size >= GROW_BY:
            if found.behind:
                evidence = (
                    f"{disk.device}: behind the filesystem's end stands {found.behind}; it is not grown over that"
                )
                self.findings.refuse(one.id, "grow/not-blank", evidence)
                return verdict(Todo.MOUNT, "it serves as it is, and is not grown")
            # resize2fs refuses an unmounted filesystem that wasn't checked since its last mount.
            if not found.checked:
                return verdict(Todo.CHECK, "it is to be grown")
            return verdict(Todo.GROW, f"the filesystem has {found.size} bytes, the disk {disk.size}")
        return verdict(Todo.MOUNT, "the filesystem passed its check" if found.used else "the filesystem is new")

    def _is_known(self, one: MemberVolume, found: Ext4) -> bool:
        """Whether protokube made or adopted this filesystem for this member on this volume, by its UUID."""
        return found.uuid in (one.uuid, one.volume.tags.get(FILESYSTEM_TAG))


def _shown(cover: Mount) -> str:
    """A mount where another one belongs."""
    return f"{cover.fstype} ({cover.number[0]}:{cover.number[1]}) is mounted at {cover.target}"
