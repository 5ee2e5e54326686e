"""Hints about volumes that this node passes over, for people who look for one here. They decide nothing."""

from __future__ import annotations

from collections.abc import Sequence

from protokube.core.steps import InUseElsewhere
from protokube.core.volumes import tags
from protokube.core.volumes.model import CloudVolume, MemberVolume, VolumesAssessment

MOST_VOLUMES = 20
"""Volumes of other zones that get a line each: four etcd clusters of five members."""
MOST_CLUSTERS = 5
"""Other clusters that are named."""


def add_hints(judged: VolumesAssessment) -> None:
    """Add hints on the volumes that are in use elsewhere, and on those of other zones and clusters."""
    findings = judged.findings
    refused = {one.volume_id for one in judged.rejected}
    others = [one for one in judged.all if one.id not in refused and judged.attachment(one) is None]
    findings.in_use_elsewhere += [
        InUseElsewhere(one.id, one.volume.attachments[0].instance, one.volume.zone)
        for one in others
        if one.volume.attachments
    ]
    here = judged.instance.zone
    findings.hints += [
        f"{one.subject} is in use by {one.holder}" for one in findings.in_use_elsewhere if one.zone == here
    ]
    findings.hints += _of_zones([one for one in others if one.volume.zone != here], here)
    findings.hints += _of_clusters(judged.unmanaged)


def _of_zones(away: Sequence[MemberVolume], here: str) -> list[str]:
    """Hints on volumes of other zones. Free ones come first: no node serves their members."""
    away = sorted(away, key=lambda one: bool(one.volume.attachments))
    hints = []
    for one in away[:MOST_VOLUMES]:
        use = "".join(f" is in use by {holder.instance}" for holder in one.volume.attachments[:1])
        hints.append(f"{one.id}{use}: zone {one.volume.zone}, this node is in {here}")
    if (more := len(away) - MOST_VOLUMES) > 0:
        hints.append(f"{more} more volumes are in other zones than {here}")
    return hints


def _of_clusters(unmanaged: Sequence[CloudVolume]) -> list[str]:
    """One line for all unmanaged volumes. Names are quoted, since a stray blank makes another name."""
    clusters: dict[str, list[str]] = {}
    for volume in unmanaged:
        if tags.has_etcd_tag(volume.tags):
            names = tags.cluster_names(volume.tags)
            clusters.setdefault(" and ".join(map(repr, names)) or "no cluster", []).append(volume.id)
    if not clusters:
        return []
    named = [
        f"{name} ({ids[0] if len(ids) == 1 else f'{len(ids)} volumes'})"
        for name, ids in sorted(clusters.items())[:MOST_CLUSTERS]
    ]
    if (more := len(clusters) - MOST_CLUSTERS) > 0:
        named.append(f"{more} more")
    count = sum(map(len, clusters.values()))
    belong = "1 volume with an etcd tag belongs" if count == 1 else f"{count} volumes with etcd tags belong"
    return [f"{belong} to other clusters: {', '.join(named)}"]
