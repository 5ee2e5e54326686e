"""What a node's report says of its running etcd clusters. It decides nothing: what was asked minutes ago is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from protokube.core.etcd.bootstrap import peer_addresses
from protokube.core.etcd.health import problems
from protokube.core.etcd.model import EtcdFacts, HealthQuestion, MemberVerdict, NotListening
from protokube.core.etcd.restarts import local_member
from protokube.core.static_pod import manifest_env
from protokube.core.steps import Findings
from protokube.core.volumes.model import VolumesAssessment


def health_questions(
    facts: EtcdFacts, volumes: VolumesAssessment, verdicts: Sequence[MemberVerdict]
) -> tuple[HealthQuestion, ...]:
    """How to ask after the etcd clusters of our members that have started and may run."""
    return tuple(_question(facts, volumes, one) for one in verdicts if one.member.has_data and one.keep_link)


def _question(facts: EtcdFacts, volumes: VolumesAssessment, verdict: MemberVerdict) -> HealthQuestion:
    own, template = verdict.member.volume.member, verdict.member.template
    secure = manifest_env(verdict.member.manifest).get("ETCD_LISTEN_CLIENT_URLS", "").startswith("https:")
    return HealthQuestion(
        local_member(template, template.member_name(own.me), secure=secure),
        {
            template.member_name(me): tuple(f"{one}:{template.peer_port}" for one in addresses)
            for me, addresses in peer_addresses(facts.cloud, volumes, own).items()
        },
    )


def report_health(facts: EtcdFacts, verdicts: Mapping[str, str], findings: Findings) -> None:
    """Report what is wrong, without being trouble of the node: nothing that protokube does depends on it.

    `verdicts`: the volume of our member, by etcd cluster.
    """
    for cluster, view in facts.health.items():
        if cluster not in verdicts:
            continue
        if isinstance(view.status, NotListening):
            findings.hints.append(f"{view.name} doesn't run: nobody listens at its client port")
            continue
        for one in problems(cluster, view):
            findings.refuse(verdicts[cluster], one.rule, one.evidence, serious=False)
