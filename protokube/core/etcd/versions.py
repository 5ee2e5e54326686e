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


def unconfirmed(member: MountedMember, identity: Identity) -> bool:
    """Whether the volume's manifest names another version than the one that is known to have run."""
    version = version_run(member)
    return identity.started and identity.etcd_version is not None and version not in (None, identity.etcd_version)


def image_due(settings: EtcdSettings, member: MountedMember, identity: Identity) -> bool:
    """Whether a member with data is to run another image than its manifest's."""
    image = image_to_run(settings, member, identity)
    return isinstance(image, str) and manifest_image(member.manifest) not in (None, image)


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


def why_no_step(before: str, after: str) -> str:
    """Why a member that ran one version may not run another; empty when it may."""
    ran, wanted = _parsed(before), _parsed(after)
    if wanted in CORRUPTING:
        return f"etcd 3.5.0 to 3.5.2 can corrupt data; take {spell_version(FIRST_STEP[(3, 6)])} or newer"
    if wanted[:2] == ran[:2]:
        return ""
    if wanted[:2] != (ran[0], ran[1] + 1):
        return "one minor version up at a time, never down"
    first = FIRST_STEP.get(wanted[:2], (0, 0, 0))
    if ran < first:
        return f"that step is safe from {spell_version(first)} on: run {spell_version(first)} first"
    return ""


def way(before: str, after: str) -> tuple[str, ...]:
    """The versions to run one after the other, from `before` (excluded) to `after`; the oldest that will do."""
    ran, wanted = _parsed(before), _parsed(after)
    found: list[Version] = []
    while ran[:2] < wanted[:2]:
        following = (ran[0], ran[1] + 1)
        if ran < (gate := FIRST_STEP.get(following, ran)):
            found.append(gate)
        ran = wanted if following == wanted[:2] else FIRST_STEP.get((ran[0], ran[1] + 2), (*following, 0))
        found.append(ran)
    if not found or found[-1] != wanted:
        found.append(wanted)
    return tuple(".".join(map(str, one)) for one in found)


def _configured(image: str, ran: str | None) -> str | Rejected:
    wanted = spell_version(image_version(image))
    # Without both versions nothing can be compared, and the operator named this image on purpose.
    if wanted is None:
        return image
    if why := why_no_step(ran or wanted, wanted):
        told = f"etcd {ran} ran here, " if ran else ""
        return Rejected("etcd/version", f"{told}--etcd-image is {image}: {why}")
    return image


def _minor(version: str) -> tuple[int, int]:
    return _parsed(version)[:2]


def _parsed(version: str) -> Version:
    major, minor, patch = map(int, version.split("."))
    return major, minor, patch
