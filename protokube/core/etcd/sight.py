"""What is known of a mounted member: its identity, its certificates, and what its etcd cluster says."""

from __future__ import annotations

from msgspec import Struct

from protokube.core.disks.accepted import Ownership
from protokube.core.disks.identity import Identity
from protokube.core.disks.model import DisksAssessment
from protokube.core.etcd.answers import AnswerTracking
from protokube.core.etcd.bootstrap import MemberFacts, PeerFacts
from protokube.core.etcd.members import identify
from protokube.core.etcd.model import EtcdFacts, EtcdSettings, MountedMember, PeerAnswers, ServedEtcd
from protokube.core.etcd.tls import clients_address, member_certificates, uses_tls
from protokube.core.model import Rejected, Unknown
from protokube.core.node.model import Link
from protokube.core.pki.model import Certificate, PkiAssessment
from protokube.core.volumes.model import VolumesAssessment

Before = tuple[VolumesAssessment, DisksAssessment, PkiAssessment]
"""The judgements of the concerns before this one."""


class Sight(Struct, frozen=True):
    """The facts, and what the concerns before this one have made of them."""

    settings: EtcdSettings
    facts: EtcdFacts
    tracking: AnswerTracking
    before: Before

    @property
    def volumes(self) -> VolumesAssessment:
        """The judgement of the volumes."""
        return self.before[0]

    @property
    def pki(self) -> PkiAssessment:
        """The judgement of the certificates."""
        return self.before[2]

    def identified(self, member: MountedMember) -> Identity | Rejected | None:
        """What the volume says whose it is; None when it says nothing yet."""
        return identify(self.volumes.cluster_id, member, self.owned(member))

    def owned(self, member: MountedMember) -> Ownership:
        """Whose filesystem the volume has."""
        return self.before[1].ownerships[member.volume.id]

    def known(self, member: MountedMember, identity: Identity) -> MemberFacts:
        """The facts by which a start is judged."""
        suffix = self.settings.suffix(self.volumes.cluster_id)
        return MemberFacts(member.volume, member.template, identity, member.has_data, suffix, self.uses_tls(member))

    def uses_tls(self, member: MountedMember) -> bool:
        """Whether the member speaks TLS."""
        return uses_tls(self.settings, member, self.facts.answers.get(member.volume.member.cluster))

    def clients(self) -> str:
        """Where members with TLS listen to clients beside 127.0.0.1; empty for nowhere."""
        return clients_address(self.settings, self.volumes)

    def certificates(self, member: MountedMember) -> tuple[Certificate, ...]:
        """The member's certificates; empty while one is missing."""
        wanted = member_certificates(member, self.settings.suffix(self.volumes.cluster_id), self.clients())
        found = [self.pki.usable.get(one.name) for one in wanted]
        return tuple(one for one in found if one is not None) if all(found) else ()

    def answers(self, member: MountedMember) -> PeerAnswers | Unknown:
        """What the peers answered."""
        return self.facts.answers.get(member.volume.member.cluster, Unknown("no peer was asked"))

    def served(self, member: MountedMember) -> ServedEtcd | Unknown:
        """What the member itself serves."""
        return self.facts.served.get(member.volume.member.cluster, Unknown("it wasn't asked"))

    def heard(self, member: MountedMember) -> frozenset[str]:
        """The names of the other members whose peer ports answer."""
        answers = self.answers(member)
        lists = answers.lists if isinstance(answers, PeerAnswers) else {}
        return frozenset(member.template.member_name(me) for me in lists)

    def peer_facts(self, member: MountedMember) -> PeerFacts:
        """What is known of the other members."""
        cluster = member.volume.member.cluster
        return PeerFacts(
            self.answers(member),
            stable=self.tracking.stable_for.get(cluster, 0.0) >= self.settings.peers_patience,
            assume_new=self.settings.assume_new,
            can_tag=self.facts.cloud.can_tag,
        )

    def kubelet_may_run(self) -> bool:
        """Whether kubelet may run the member: always, unless its unit is known to be down."""
        unit = self.facts.node.unit
        if self.settings.kubelet_unit is None or unit is None or isinstance(unit, Unknown):
            return True
        return unit.active not in ("inactive", "failed")

    def is_linked(self, member: MountedMember) -> bool:
        """Whether kubelet's folder has our link, so that a changed manifest restarts the member."""
        files = self.facts.node.files
        state = None if isinstance(files, Unknown) else files.get(member.link)
        return isinstance(state, Link) and state.target == member.path(member.template.manifest)
