"""The mounted members of this machine, and the identities of their volumes."""

from __future__ import annotations

from protokube.core.disks.identity import Identity, parse_identity
from protokube.core.disks.model import DisksAssessment, Expected, VolumeContents
from protokube.core.disks.ownership import is_kops, judge_ownership
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.etcd.model import EtcdFacts, EtcdSettings, MountedMember
from protokube.core.model import Rejected
from protokube.core.static_pod import image_version, manifest_image, spell_version
from protokube.core.volumes.model import BOOTSTRAPPED_TAG, VolumesAssessment


def mounted_members(settings: EtcdSettings, facts: EtcdFacts, disks: DisksAssessment) -> tuple[MountedMember, ...]:
    """Select our volumes that are mounted at their mount point, healthy and readable."""
    members = []
    for volume in disks.attached:
        where = disks.mounted.get(volume.id)
        contents = facts.storage.contents.get(volume.id)
        readable = isinstance(contents, VolumeContents) and contents.uuid is not None
        if where is None or not readable or volume.id in disks.unhealthy:
            continue
        assert isinstance(contents, VolumeContents)
        template = settings.templates[volume.member.cluster]
        members.append(MountedMember(volume, template, settings.link(template), where, contents))
    return tuple(members)


def identify(volumes: VolumesAssessment, member: MountedMember, suffix: str) -> Identity | Rejected | None:
    """Read the identity file of a mounted volume and judge the volume by it; None when there is no file yet.

    debugfs reads before the mount, without the journal, and may miss the newest files: so all is judged again here.
    """
    volume = member.volume
    if refused := judge_ownership(volumes, volume, Expected(member.template, suffix), (member.uuid, member.contents)):
        return refused
    text = member.contents.texts.get(IDENTITY_PATH)
    if text is None:
        return None
    identity = parse_identity(text)
    if isinstance(identity, Rejected):
        return identity
    if volume.marked_bootstrapped and not identity.started and not member.has_data:
        evidence = f"{IDENTITY_PATH} says started: false, the volume is tagged {BOOTSTRAPPED_TAG}"
        return Rejected("volume/identity", evidence)
    return identity


def first_identity(cluster_id: str, member: MountedMember) -> Identity:
    """The identity to write to a volume that has none yet."""
    volume = member.volume
    kops = is_kops(member.contents, member.template)
    image = manifest_image(member.manifest) if kops else None
    version = spell_version(image_version(image)) if image else None
    return Identity(
        cluster_id,
        volume.member.cluster,
        volume.member.me,
        volume.id,
        member.uuid,
        version,
        member.has_data or kops,  # a member that kops has run never starts as `new`
    )
