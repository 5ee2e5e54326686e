"""Which etcd image to run. etcd supports one minor step up at a time, and never a step by accident."""

from __future__ import annotations

from protokube.core.disks.identity import Identity
from protokube.core.etcd.model import EtcdSettings, MountedMember
from protokube.core.model import Rejected
from protokube.core.static_pod import image_version, manifest_image, spell_version


def version_run(member: MountedMember) -> str | None:
    """The etcd version in the manifest that stands on the volume."""
    image = manifest_image(member.manifest)
    return spell_version(image_version(image)) if image else None


def image_to_run(settings: EtcdSettings, member: MountedMember, identity: Identity) -> str | Rejected:
    """The operator's image where the step to it is legal; else the default, unless another minor version ran here."""
    ran = identity.etcd_version
    if settings.image is not None:
        return _configured(settings.image, ran)
    if not identity.started and not member.has_data:
        return settings.default_image
    default = image_version(settings.default_image)
    if ran is not None and default is not None and _minor(ran) == default[:2]:
        return settings.default_image
    present = manifest_image(member.manifest)
    if present is not None:
        return present
    evidence = f"etcd {ran or 'of an unknown version'} ran here, and no manifest says which image; give --etcd-image"
    return Rejected("etcd/version", evidence)


def _configured(image: str, ran: str | None) -> str | Rejected:
    wanted = image_version(image)
    if ran is None or wanted is None:
        return image
    before = _minor(ran)
    if wanted[:2] in (before, (before[0], before[1] + 1)):
        return image
    evidence = f"etcd {ran} ran here, --etcd-image is {image}; one minor version up at a time, never down"
    return Rejected("etcd/version", evidence)


def _minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
