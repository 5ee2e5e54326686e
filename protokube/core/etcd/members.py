"""The mounted members of this machine, and the identities of their volumes."""

from __future__ import annotations

from msgspec.structs import replace

from protokube.core.disks.accepted import Ownership
from protokube.core.disks.identity import Identity, parse_identity
from protokube.core.disks.model import DisksAssessment, VolumeContents
from protokube.core.disks.ownership import EMPTY, is_kops
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.etcd.model import EtcdFacts, EtcdSettings, MountedMember
from protokube.core.model import Rejected
from protokube.core.static_pod import image_version, manifest_image, spell_version
from protokube.core.volumes.model import BOOTSTRAPPED_TAG


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


def identify(cluster_id: str, member: MountedMember, owned: Ownership) -> Identity | Rejected | None:
    """Read the identity of a mounted volume and judge the volume by it; None when there is no identity file yet.

    Where an operator has overruled every refusal, it is the identity that the volume is to have.
    """
    volume = member.volume
    if refused := owned.barring:
        return refused
    if owned.refused:
        return _overruled_identity(cluster_id, member, owned)
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


def _overruled_identity(cluster_id: str, member: MountedMember, owned: Ownership) -> Identity:
    """The identity of a volume whose refusals were overruled.

    Its member counts as having run, whatever the files say: a filesystem whose past is in doubt never starts a `new`
    one. An empty filesystem that the operator has made himself has no past.
    """
    identity = first_identity(cluster_id, member)
    old = parse_identity(member.contents.texts.get(IDENTITY_PATH, ""))
    if not isinstance(old, Rejected):
        identity = replace(identity, etcd_version=old.etcd_version)
    past = owned.overruled != (EMPTY,) or member.volume.marked_bootstrapped
    return replace(identity, started=identity.started or past)


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
