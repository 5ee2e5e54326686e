"""From our mounted volumes and our peers to the records that this node keeps."""

from __future__ import annotations

from protokube.core.dns.actions import ChangeRecords
from protokube.core.dns.changes import plan_records
from protokube.core.dns.model import REMOVALS, DesiredRecords
from protokube.core.dns.names import Naming, desired_records, holdings
from protokube.core.dns.owners import gone_owners
from protokube.core.etcd.links import waits_for_names
from protokube.core.etcd.members import mounted_places
from protokube.core.model import Unknown
from protokube.core.observed import Observed
from protokube.core.settings import NodeConfig
from protokube.core.steps import Plan
from protokube.core.volumes.assess import Desired
from protokube.core.volumes.model import EtcdMember, MemberVolume
from protokube.core.volumes.plan import strangers


def records_of(config: NodeConfig, observed: Observed, desired: Desired) -> DesiredRecords:
    """The records that this node should keep now."""
    attached: dict[str, list[EtcdMember]] = {}
    for one in desired.all:
        for attachment in one.volume.attachments:
            attached.setdefault(attachment.instance, []).append(one.member)
    peers = observed.peers if isinstance(observed.peers, Unknown) else holdings(observed.peers, attached)
    return desired_records(
        Naming(desired.cluster_id, config.suffix(desired.cluster_id)),
        desired.instance,
        peers,
        held=[mine.member for mine in desired.held.values()],
        mounted=[mine.member for mine in mounted(config, observed, desired)],
        private=config.private_dns,
        incomplete=isinstance(observed.mounts, Unknown) or bool(strangers(observed, desired)),
    )


def mounted(config: NodeConfig, observed: Observed, desired: Desired) -> list[MemberVolume]:
    """Our volumes that are mounted in their place."""
    return [place.mine for place in mounted_places(config, observed, desired)]


def names_to_read(config: NodeConfig, observed: Observed, desired: Desired) -> frozenset[str]:
    """The names whose records matter: those that we keep, and those that a first link still waits for."""
    if config.dns == "none":
        return frozenset()
    naming = Naming(desired.cluster_id, config.suffix(desired.cluster_id))
    places = mounted_places(config, observed, desired)
    waited = {
        name
        for place in places
        if waits_for_names(config, observed, place)
        for name in naming.members(place.mine.member)
    }
    return records_of(config, observed, desired).names | waited


def plan_names(config: NodeConfig, observed: Observed, desired: Desired, plan: Plan) -> None:
    """Plan the changes to records."""
    if config.dns == "none":
        return
    if isinstance(observed.records, Unknown):
        plan.ignorance("dns", observed.records.reason)
        return
    if isinstance(observed.peers, Unknown):
        plan.ignorance("peers", observed.peers.reason)
    decided = plan_records(
        records_of(config, observed, desired),
        observed.records,
        gone_owners(desired.instance.id, observed.peers, observed.absent_for),
        adopt=config.dns_adopt,
        removals=max(0, config.dns_removals - observed.removed),
    )
    for batch in decided.batches:
        plan.step(observed, ChangeRecords(batch.name, batch.changes), batch.reason)
    for subject, rule, evidence in decided.refusals:
        plan.refuse(subject, rule, evidence)
    for subject, reason in decided.waiting:
        plan.wait(subject, reason)
    if decided.left_over and REMOVALS not in observed.failed:
        plan.wait("dns", f"{decided.left_over} more of the records that gone owners left go in later rounds")
