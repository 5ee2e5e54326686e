"""Which volumes are passed over, and why: what somebody looks for who misses a volume here. It decides nothing."""

from __future__ import annotations

from protokube.core.steps import Held, Plan
from protokube.core.volumes import tags as tagging
from protokube.core.volumes.assess import Desired
from protokube.core.volumes.model import CloudVolume, MemberVolume

MOST_VOLUMES = 20
"""Volumes of other zones that are told one by one: four etcd clusters of five members."""
MOST_CLUSTERS = 5
"""Other clusters that are named."""


def plan_notes(desired: Desired, plan: Plan) -> None:
    """Note the volumes that other instances hold, and those of other zones and clusters."""
    refused = {one.volume_id for one in desired.rejected}
    others = [
        mine
        for mine in desired.all
        if mine.id not in refused and mine.volume.attachment_to(desired.instance.id) is None
    ]
    plan.held += [
        Held(mine.id, mine.volume.attachments[0].instance, mine.volume.zone)
        for mine in others
        if mine.volume.attachments
    ]
    here = desired.instance.zone
    plan.notes += [f"{one.subject} is in use by {one.holder}" for one in plan.held if one.zone == here]
    _note_zones([mine for mine in others if mine.volume.zone != desired.instance.zone], desired, plan)
    _note_clusters(desired.foreign, plan)


def _note_zones(away: list[MemberVolume], desired: Desired, plan: Plan) -> None:
    """The free ones first: nobody serves their members yet."""
    away = sorted(away, key=lambda mine: bool(mine.volume.attachments))
    for mine in away[:MOST_VOLUMES]:
        use = "".join(f" is in use by {one.instance}" for one in mine.volume.attachments[:1])
        plan.notes.append(f"{mine.id}{use}: zone {mine.volume.zone}, this node is in {desired.instance.zone}")
    if (more := len(away) - MOST_VOLUMES) > 0:
        plan.notes.append(f"{more} more volumes are in other zones than {desired.instance.zone}")


def _note_clusters(foreign: tuple[CloudVolume, ...], plan: Plan) -> None:
    """One line for all of them, however many there are. Names are quoted: a blank too many is a name of its own."""
    clusters: dict[str, list[str]] = {}
    for volume in foreign:
        if tagging.has_etcd_tag(volume.tags):
            names = tagging.cluster_names(volume.tags)
            clusters.setdefault(" and ".join(map(repr, names)) or "no cluster", []).append(volume.id)
    if not clusters:
        return
    named = [
        f"{name} ({ids[0] if len(ids) == 1 else f'{len(ids)} volumes'})"
        for name, ids in sorted(clusters.items())[:MOST_CLUSTERS]
    ]
    if (more := len(clusters) - MOST_CLUSTERS) > 0:
        named.append(f"{more} more")
    count = sum(map(len, clusters.values()))
    belong = "1 volume with an etcd tag belongs" if count == 1 else f"{count} volumes with etcd tags belong"
    plan.notes.append(f"{belong} to other clusters: {', '.join(named)}")
