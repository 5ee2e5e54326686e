"""Which etcd image to run. etcd supports one minor step up at a time; protokube takes it only on demand.

Invariant: a member that ran never gets another minor version, unless the operator names the image.
"""

from __future__ import annotations

from protokube.core.disks.identity import Identity
from protokube.core.etcd.model import EtcdSettings, MountedMember
from protokube.core.model import Rejected
from protokube.core.static_pod import Version, image_version, manifest_image, spell_version

CORRUPTING = ((3, 5, 0), (3, 5, 1), (3, 5, 2))
"""Versions that can corrupt data (etcd's postmortem of the 3.5 data inconsistency). Newer patches read their data."""

FIRST_STEP: dict[tuple[int, int], Version] = {(3, 6): (3, 5, 32), (3, 7): (3, 6, 11)}
"""The oldest version from which etcd's upgrade guide allows the step to each minor version.

Older 3.5 patches may leave learners and removed members behind that 3.6 refuses (etcd-io/etcd 19557, 20793, 20967).
"""


def version_run(member: MountedMember) -> str | None:
    """The etcd version in the volume's manifest; None when no tag tells."""
    image = manifest_image(member.manifest)
    return spell_version(image_version(image)) if image else None


def image_to_run(settings: EtcdSettings, member: MountedMember, identity: Identity) -> str | Rejected:
    """Choose the image: the operator's if the step to it is legal, else the default if its minor version ran here.

    Otherwise the image of the volume's manifest goes on. Rejected when nothing tells which image ran.
    """
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
    if wanted is not None and wanted in CORRUPTING:
        newer = spell_version(FIRST_STEP[(3, 6)])
        evidence = f"--etcd-image is {image}: etcd 3.5.0 to 3.5.2 can corrupt data; take {newer} or newer"
        return Rejected("etcd/version", evidence)
    # Without both versions nothing can be compared, and the operator named this image on purpose.
    if ran is None or wanted is None:
        return image
    before = _parsed(ran)
    if wanted[:2] == before[:2]:
        return image
    if wanted[:2] != (before[0], before[1] + 1):
        evidence = f"etcd {ran} ran here, --etcd-image is {image}; one minor version up at a time, never down"
        return Rejected("etcd/version", evidence)
    first = FIRST_STEP.get(wanted[:2], (0, 0, 0))
    if before < first:
        patch = spell_version(first)
        evidence = (
            f"etcd {ran} ran here, --etcd-image is {image}; that step is safe from {patch} on: run {patch} first"
        )
        return Rejected("etcd/version", evidence)
    return image


def _minor(version: str) -> tuple[int, int]:
    return _parsed(version)[:2]


def _parsed(version: str) -> Version:
    major, minor, patch = map(int, version.split("."))
    return major, minor, patch
