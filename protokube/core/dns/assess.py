"""From the mounted members and the peers to the records that this node keeps."""

from __future__ import annotations

from protokube.core.dns.changes import RecordPolicy, decide_records
from protokube.core.dns.model import DnsAssessment, DnsFacts, DnsSettings, WantedRecords
from protokube.core.dns.names import Naming, member_nodes, wanted_records
from protokube.core.dns.owners import OwnerTracking, terminated_owners
from protokube.core.etcd.model import EtcdAssessment
from protokube.core.model import Unknown
from protokube.core.steps import Findings
from protokube.core.volumes.model import VolumesAssessment

Before = tuple[VolumesAssessment, EtcdAssessment]
"""The judgements of the concerns before this one."""


def assess(settings: DnsSettings, facts: DnsFacts, tracking: OwnerTracking, before: Before) -> DnsAssessment:
    """Judge the names: which ones to read, and which of their records to change."""
    volumes, etcd = before
    if not settings.kept:
        return DnsAssessment()
    findings = Findings()
    ours = _wanted(settings, facts, volumes, etcd)
    names = ours.names | etcd.awaited
    if isinstance(facts.records, Unknown):
        findings.not_known("dns", facts.records.reason)
        return DnsAssessment(names, findings=findings)
    if isinstance(facts.cloud.peers, Unknown):
        findings.not_known("peers", facts.cloud.peers.reason)
    terminated = terminated_owners(volumes.instance.id, facts.cloud.peers, tracking.absences.absent_for())
    policy = RecordPolicy(terminated, max(0, settings.removals - tracking.removed), settings.adopt)
    decided = decide_records(ours, facts.records, policy)
    for subject, rule, evidence in decided.refusals:
        findings.refuse(subject, rule, evidence)
    for subject, reason in decided.waiting:
        findings.wait(subject, reason)
    return DnsAssessment(names, decided.batches, decided.left_over, findings)


def _wanted(
    settings: DnsSettings, facts: DnsFacts, volumes: VolumesAssessment, etcd: EtcdAssessment
) -> WantedRecords:
    known = facts.cloud.peers
    peers = known if isinstance(known, Unknown) else member_nodes(known, volumes.attached)
    return wanted_records(
        Naming(volumes.cluster_id, settings.full_suffix(volumes.cluster_id)),
        volumes.instance,
        peers,
        ours=[one.member for one in volumes.ours.values()],
        mounted=[one.volume.member for one in etcd.members],
        private=settings.private,
        # A node that is about to get a volume would only write again what it withdraws, so it needn't read the names.
        incomplete=not facts.mounts_known or bool(volumes.stray or volumes.claim or volumes.unconfirmed),
    )
