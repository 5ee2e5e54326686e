"""What a member that runs may change now: its version, TLS, the authorities that it trusts, its manifest at all."""

from __future__ import annotations

from msgspec.structs import replace

from protokube.core.disks.identity import Identity
from protokube.core.etcd.asking import Questions
from protokube.core.etcd.bootstrap import MemberFacts
from protokube.core.etcd.migration import MovePeer, Restart, next_step
from protokube.core.etcd.model import (
    MemberVerdict,
    MountedMember,
    NotListening,
    PeerAnswers,
    PeerChange,
    ServedEtcd,
)
from protokube.core.etcd.restarts import (
    has_restarted,
    may_restart,
    present_trust,
    restart_due,
    telling_due,
    trust_of,
)
from protokube.core.etcd.rolling import NotYet, Turn
from protokube.core.etcd.turns import TakeTurn, is_over, spell_turn, whose_turn
from protokube.core.etcd.upgrade import Upgrade, may_change
from protokube.core.etcd.versions import unconfirmed, version_run
from protokube.core.model import Rejected, Unknown
from protokube.core.static_pod import image_version, manifest_env, manifest_image, spell_version
from protokube.core.steps import Findings


class Changes(Questions, frozen=True):
    """Decides each change of a member; what it refuses or waits for goes to `findings`."""

    findings: Findings

    def image(self, member: MountedMember, image: str, known: MemberFacts) -> str:
        """The image to write: the wanted one in our member's turn, else the one that it runs."""
        present = manifest_image(member.manifest)
        if not member.has_data or present in (None, image):
            return image
        assert present is not None
        template = member.template
        answers = self.answers(member)
        heard = answers.versions if isinstance(answers, PeerAnswers) else {}
        versions = {template.member_name(me): version for me, version in heard.items()}
        wanted = Upgrade(known.name, spell_version(image_version(image)))
        match may_change(wanted, self.served(member), versions):
            case Turn():
                return image
            case NotYet() as wait:
                self.findings.wait(member.volume.id, f"it is to run {image}: {wait.reason}", external=True)
            case Rejected() as refused:
                self.findings.refuse(member.volume.id, refused.rule, f"it is to run {image}: {refused.evidence}")
        return present

    def as_started(self, member: MountedMember, identity: Identity) -> Identity:
        """The identity of a member that has started: for ever, with the version that last ran, and with TLS once it
        had that.

        The first version that it has is the manifest's. A later one counts once etcd itself says that it runs: until
        then the image may be one that never came up, and the way back stays open.
        """
        version = version_run(member) or identity.etcd_version
        if unconfirmed(member, identity):
            served = self.served(member)
            confirmed = isinstance(served, ServedEtcd) and served.version == version
            if not confirmed:
                why = served.reason if isinstance(served, Unknown) else f"it still runs {served.version}"
                self.findings.wait(member.volume.id, f"it starts with etcd {version}: {why}", external=True)
                version = identity.etcd_version
        tls = identity.tls or manifest_env(member.manifest).get("ETCD_LISTEN_PEER_URLS", "").startswith("https:")
        return replace(identity, started=True, etcd_version=version, tls=tls)

    def move(self, verdict: MemberVerdict, known: MemberFacts) -> tuple[MemberVerdict, bool]:
        """The verdict with the next step of a member that moves to TLS, and whether it has TLS from now on."""
        member = verdict.member
        if not self.certificates(member):
            self.findings.wait(member.volume.id, "it moves to TLS: its certificates are issued first", external=True)
            return verdict, False
        match next_step(known.name, self.served(member), self.answers(member), self.heard(member)):
            case Restart():
                return verdict, True
            case MovePeer() as move:
                change = PeerChange(move.id, move.old, replace(known, tls=True).url)
                return replace(verdict, secure_peer=change), False
            case NotYet() as wait:
                self.findings.wait(member.volume.id, f"it moves to TLS: {wait.reason}", external=True)
            case Rejected() as refused:
                self.findings.refuse(member.volume.id, refused.rule, refused.evidence, serious=False)
        return verdict, False

    def trusted(self, member: MountedMember, known: MemberFacts) -> str:
        """The authorities that the member's process is to be started with. A running one restarts in its turn."""
        trust = trust_of(self.certificates(member))
        ran_secure = member.has_data and manifest_env(member.manifest).get("ETCD_CERT_FILE")
        if not ran_secure or not restart_due(member, trust):
            return present_trust(member) if ran_secure else trust.trusted
        turn = may_restart(known.name, trust, self.served(member), self.heard(member), now=self.facts.now)
        if isinstance(turn, Turn):
            return trust.trusted
        reason = f"it restarts, since the authorities to trust have changed: {turn.reason}"
        self.findings.wait(member.volume.id, reason, external=True)
        return present_trust(member)

    def tell(self, verdict: MemberVerdict, identity: Identity, known: MemberFacts) -> MemberVerdict:
        """The verdict with what a member tells the others about its authorities, and with its note of that."""
        member = verdict.member
        certificates = self.certificates(member)
        if not certificates or verdict.identity is not None:
            return verdict
        trust = trust_of(certificates)
        if not telling_due(member, identity, trust):
            return verdict
        served = self.served(member)
        if isinstance(served, Unknown) or not has_restarted(member, served, self.facts.now):
            why = served.reason if isinstance(served, Unknown) else "its process hasn't restarted yet"
            self.findings.wait(member.volume.id, f"it restarts with the authorities to trust: {why}", external=True)
            return verdict
        if served.told.get(known.name) != trust.told:
            return replace(verdict, tell=trust.told)
        told = replace(identity, told=trust.told)
        return replace(verdict, identity=told.render(), identity_reason="it has told the others what it trusts")

    def in_turn(self, verdict: MemberVerdict, known: MemberFacts, manifest: str, reason: str) -> MemberVerdict:
        """The verdict with a manifest that restarts the member, once its turn is taken."""
        member, served = verdict.member, self.served(verdict.member)
        plain = not manifest_env(member.manifest).get("ETCD_LISTEN_PEER_URLS", "").startswith("https:")
        if known.tls and plain and isinstance(served, Unknown) and not isinstance(served, NotListening):
            # It moves to TLS without quorum, since the others list it with https already: it serves nobody.
            return replace(verdict, manifest=manifest, manifest_reason=reason)
        match whose_turn(known.name, served, self.heard(member), self.facts.now):
            case Turn():
                return replace(verdict, manifest=manifest, manifest_reason=reason)
            case TakeTurn():
                before = served.turn if isinstance(served, ServedEtcd) else ""
                return replace(verdict, turn=spell_turn(known.name, self.facts.now), turn_before=before)
            case NotYet() as wait:
                text = f"its manifest has changed, and it restarts in its turn: {wait.reason}"
                self.findings.wait(member.volume.id, text, external=True)
        return verdict

    def after_turn(self, verdict: MemberVerdict, known: MemberFacts) -> MemberVerdict:
        """The verdict with the turn given back, when our member had it and runs again."""
        member, served = verdict.member, self.served(verdict.member)
        if not isinstance(served, ServedEtcd) or verdict.manifest is not None or verdict.turn is not None:
            return verdict
        if is_over(known.name, served, restarted=has_restarted(member, served, self.facts.now)):
            return replace(verdict, give_back=served.turn)
        return verdict
