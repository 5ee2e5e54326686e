"""From a mounted volume to a linked manifest: identity, data directory, manifest, and the link, in that order.

No etcd without its volume: the manifest lives on the volume, and kubelet's folder has only a link to it. While the
volume isn't mounted the link leads nowhere, and kubelet starts no etcd on an empty directory.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from protokube.core.backup.model import RESTORE_MARK
from protokube.core.disks.accepted import Ownership
from protokube.core.disks.identity import Identity
from protokube.core.disks.model import DisksAssessment, VolumeContents
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.etcd.answers import AnswerTracking
from protokube.core.etcd.bootstrap import (
    MemberFacts,
    PeerFacts,
    Start,
    Wait,
    initial_state,
    needs_peers,
    peers_to_ask,
    with_backups,
)
from protokube.core.etcd.links import awaits_names, member_names, stale_links, why_link
from protokube.core.etcd.manifest import Wanted, wanted_manifest
from protokube.core.etcd.members import first_identity, identify, mounted_members
from protokube.core.etcd.migration import MovePeer, Restart, next_step, wants_tls
from protokube.core.etcd.model import (
    EtcdAssessment,
    EtcdFacts,
    EtcdSettings,
    LocalMember,
    MemberVerdict,
    MountedMember,
    PeerAnswers,
    PeerChange,
    ServedEtcd,
    TagWanted,
)
from protokube.core.etcd.reported import health_questions, report_health
from protokube.core.etcd.restarts import (
    has_restarted,
    local_member,
    may_restart,
    present_trust,
    restart_due,
    telling_due,
    trust_of,
)
from protokube.core.etcd.rolling import NotYet, Turn
from protokube.core.etcd.tls import may_use_tls, member_certificates, uses_tls
from protokube.core.etcd.upgrade import Upgrade, may_change
from protokube.core.etcd.versions import image_due, image_to_run, unconfirmed, version_run
from protokube.core.model import Rejected, Unknown
from protokube.core.pki.model import Certificate, PkiAssessment
from protokube.core.static_pod import image_version, manifest_env, manifest_image, spell_version
from protokube.core.steps import Findings
from protokube.core.volumes.model import BOOTSTRAPPED_TAG, FILESYSTEM_TAG, VolumesAssessment

Before = tuple[VolumesAssessment, DisksAssessment, PkiAssessment]
"""The judgements of the concerns before this one."""


def assess(settings: EtcdSettings, facts: EtcdFacts, tracking: AnswerTracking, before: Before) -> EtcdAssessment:
    """Judge the members of this machine's mounted volumes, and find stale links."""
    volumes, disks, _ = before
    findings = Findings()
    members = mounted_members(settings, facts, disks)
    suffix = settings.suffix(volumes.cluster_id)
    judge = _Judge(settings, facts, tracking, before, findings)
    questions = dict(filter(None, (judge.question(member) for member in members)))
    asked = tuple(filter(None, map(judge.asked, members)))
    awaited = frozenset(
        name
        for member in members
        if awaits_names(settings, facts.node.files, member)
        for name in member_names(member, suffix)
    )
    if isinstance(facts.node.files, Unknown):
        findings.not_known("files", facts.node.files.reason)
        return EtcdAssessment(members, questions=questions, awaited=awaited, asked=asked, findings=findings)
    _report_unread(facts, disks, findings)
    verdicts = tuple(judge.member(member) for member in members)
    kept = {one.member.link for one in verdicts if one.keep_link}
    stale = tuple(stale_links(settings, facts, members, kept))
    report_health(facts, {one.member.template.key: one.member.volume.id for one in verdicts}, findings)
    health = health_questions(facts, volumes, verdicts)
    return EtcdAssessment(
        members, verdicts, stale, questions, awaited, asked, health, tuple(judge.backed_up), findings
    )


def _report_unread(facts: EtcdFacts, disks: DisksAssessment, findings: Findings) -> None:
    for volume in disks.attached:
        contents = facts.storage.contents.get(volume.id)
        if volume.id in disks.mounted and isinstance(contents, Unknown):
            findings.not_known(volume.id, contents.reason)
        elif isinstance(contents, VolumeContents) and contents.uuid is None:
            reason = f"the UUID of the filesystem mounted at {volume.target} can't be read"
            findings.not_known(volume.id, reason)


class _Judge(Struct, frozen=True):
    """Judges one mounted member after the other; what it refuses or waits for goes to `findings`. `backed_up`:
    the etcd clusters of which backups would bar a start."""

    settings: EtcdSettings
    facts: EtcdFacts
    tracking: AnswerTracking
    before: Before
    findings: Findings
    backed_up: list[str] = field(default_factory=list)

    @property
    def volumes(self) -> VolumesAssessment:
        """The judgement of the volumes."""
        return self.before[0]

    @property
    def pki(self) -> PkiAssessment:
        """The judgement of the certificates."""
        return self.before[2]

    def question(self, member: MountedMember) -> tuple[str, Mapping[str, str]] | None:
        """The etcd cluster and the peer URLs to ask; None for a member that started, or that is refused."""
        identity = self._identify(member) or first_identity(self.volumes.cluster_id, member)
        if isinstance(identity, Rejected):
            return None
        known = self._known(member, identity)
        lost_manifest = member.has_data and not member.manifest
        if not (needs_peers(known) or self.asked(member) or lost_manifest):
            return None
        maybe_tls = may_use_tls(self.settings, member) or bool(self.asked(member)) or lost_manifest
        return member.volume.member.cluster, peers_to_ask(self.facts.cloud, self.volumes, known, maybe_tls=maybe_tls)

    def asked(self, member: MountedMember) -> LocalMember | None:
        """Our member's client port, where what it serves matters: it is to restart, or to tell something."""
        identity = self._identify(member)
        certificates = self._certificates(member)
        if not isinstance(identity, Identity) or not member.has_data:
            return None
        secure = self._uses_tls(member)
        moves = False
        if certificates:
            trust = trust_of(certificates)
            due = restart_due(member, trust) or telling_due(member, identity, trust)
            moves = due if secure else wants_tls(self.settings, member)
        if not (moves or unconfirmed(member, identity) or image_due(self.settings, member, identity)):
            return None
        name = member.template.member_name(member.volume.member.me)
        return local_member(member.template, name, secure=secure)

    def member(self, member: MountedMember) -> MemberVerdict:
        """Judge one mounted member: decide its next step."""
        volume = member.volume
        identity = self._identify(member)
        if isinstance(identity, Rejected):
            self.findings.refuse(volume.id, identity.rule, identity.evidence)
            # A wrong tag or file stops no member that runs, and starts none.
            return MemberVerdict(member, keep_link=member.has_data)
        if RESTORE_MARK in member.contents.entries:
            self.findings.wait(volume.id, "its data are being restored: protokube etcd restore", external=True)
            return MemberVerdict(member, keep_link=False)
        verdict = MemberVerdict(member, keep_link=True)
        overruled = self._owned(member).overruled
        if overruled and identity and identity.render() != member.contents.texts.get(IDENTITY_PATH):
            # From now on the identity file says whose the volume is, whatever becomes of the acceptance.
            reason = f"whose volume this is; {' and '.join(overruled)}: overruled by the operator"
            identified = replace(verdict, identity=identity.render(), identity_reason=reason, warning=True)
            return replace(identified, tags=self._tags(member))
        if identity is None:
            identity = first_identity(self.volumes.cluster_id, member)
            verdict = replace(verdict, identity=identity.render(), identity_reason="whose volume this is")
            if member.uuid != volume.uuid or member.has_data:
                return verdict  # an adopted volume gets its identity before anything on it is replaced
        verdict = replace(verdict, tags=self._tags(member))
        if member.has_data and (started := self._as_started(member, identity)) != identity:
            # Recorded before any image is judged: the version that ran decides which step is legal.
            reason = f"etcd {started.etcd_version or 'of an unknown version'} has started"
            verdict = replace(verdict, identity=started.render(), identity_reason=reason)
            identity = started
        known = self._known(member, identity)
        if wants_tls(self.settings, member) and not known.tls:
            verdict, tls = self._move(verdict, known)
            known = replace(known, tls=tls)
        elif known.tls and member.has_data:
            verdict = self._tell(verdict, identity, known)
        start = self._unless_backed_up(member, initial_state(self.volumes, known, self._peer_facts(member)))
        if not isinstance(start, Start):
            return self._not_started(verdict, start, known)
        image = image_to_run(self.settings, member, identity)
        if isinstance(image, Rejected):
            self.findings.refuse(volume.id, image.rule, image.evidence)
            return verdict
        return self._start(verdict, start, self._image(member, image, known), known)

    def _unless_backed_up(self, member: MountedMember, start: Start | Rejected | Wait) -> Start | Rejected | Wait:
        """What is to be done, unless a cluster would be born of which the named store has backups."""
        if not isinstance(start, Start) or start.state != "new" or not self.settings.store_shared:
            return start
        cluster = member.volume.member.cluster
        self.backed_up.append(cluster)
        return with_backups(member.volume.member, self.facts.kept.get(cluster)) or start

    def _image(self, member: MountedMember, image: str, known: MemberFacts) -> str:
        """The image to write: the wanted one in our member's turn, else the one that it runs."""
        present = manifest_image(member.manifest)
        if not member.has_data or present in (None, image):
            return image
        assert present is not None
        template = member.template
        answers = self._answers(member)
        heard = answers.versions if isinstance(answers, PeerAnswers) else {}
        versions = {template.member_name(me): version for me, version in heard.items()}
        wanted = Upgrade(known.name, spell_version(image_version(image)))
        match may_change(wanted, self._served(member), versions):
            case Turn():
                return image
            case NotYet() as wait:
                self.findings.wait(member.volume.id, f"it is to run {image}: {wait.reason}", external=True)
            case Rejected() as refused:
                self.findings.refuse(member.volume.id, refused.rule, f"it is to run {image}: {refused.evidence}")
        return present

    def _as_started(self, member: MountedMember, identity: Identity) -> Identity:
        """The identity of a member that has started: for ever, with the version that last ran, and with TLS once it
        had that.

        The first version that it has is the manifest's. A later one counts once etcd itself says that it runs: until
        then the image may be one that never came up, and the way back stays open.
        """
        version = version_run(member) or identity.etcd_version
        if unconfirmed(member, identity):
            served = self._served(member)
            confirmed = isinstance(served, ServedEtcd) and served.version == version
            if not confirmed:
                why = served.reason if isinstance(served, Unknown) else f"it still runs {served.version}"
                self.findings.wait(member.volume.id, f"it starts with etcd {version}: {why}", external=True)
                version = identity.etcd_version
        tls = identity.tls or manifest_env(member.manifest).get("ETCD_LISTEN_PEER_URLS", "").startswith("https:")
        return replace(identity, started=True, etcd_version=version, tls=tls)

    def _identify(self, member: MountedMember) -> Identity | Rejected | None:
        return identify(self.volumes.cluster_id, member, self._owned(member))

    def _owned(self, member: MountedMember) -> Ownership:
        return self.before[1].ownerships[member.volume.id]

    def _known(self, member: MountedMember, identity: Identity) -> MemberFacts:
        suffix = self.settings.suffix(self.volumes.cluster_id)
        return MemberFacts(member.volume, member.template, identity, member.has_data, suffix, self._uses_tls(member))

    def _uses_tls(self, member: MountedMember) -> bool:
        return uses_tls(self.settings, member, self.facts.answers.get(member.volume.member.cluster))

    def _peer_facts(self, member: MountedMember) -> PeerFacts:
        cluster = member.volume.member.cluster
        return PeerFacts(
            self._answers(member),
            stable=self.tracking.stable_for.get(cluster, 0.0) >= self.settings.peers_patience,
            assume_new=self.settings.assume_new,
            can_tag=self.facts.cloud.can_tag,
        )

    def _not_started(self, verdict: MemberVerdict, start: Rejected | Wait, known: MemberFacts) -> MemberVerdict:
        volume = verdict.member.volume
        if isinstance(start, Wait):
            self.findings.wait(volume.id, start.reason, external=start.external)
            return replace(verdict, keep_link=start.as_is)
        self.findings.refuse(volume.id, start.rule, start.evidence)
        heard = self.facts.answers.get(volume.member.cluster)
        if needs_peers(known) and heard is not None and not isinstance(heard, Unknown):
            # `etcdctl member add` costs a small cluster its quorum until this member joins, so ask again soon.
            self.findings.wait(volume.id, "its peers are asked again whether they list it", external=True)
        return replace(verdict, keep_link=False)

    def _start(self, verdict: MemberVerdict, start: Start, image: str, known: MemberFacts) -> MemberVerdict:
        member = verdict.member
        complete = verdict.identity is None or member.has_data
        if f"{member.template.data_dir}/" not in member.contents.entries:
            verdict, complete = replace(verdict, make_data_dir=True), False
        if known.tls and not self._certificates(member):
            # The PKI's own findings tell why. A member that runs keeps its link.
            self.findings.wait(member.volume.id, "its certificates are issued first")
            return verdict
        wanted = Wanted(start, image, known.dns_suffix, self._trusted(member, known) if known.tls else None)
        manifest = wanted_manifest(self.settings, member, wanted, may_run=self._kubelet_may_run())
        if manifest != member.contents.texts.get(member.template.manifest):
            complete = False
            # The manifest tells which version ran: it is replaced only once the identity file holds that.
            if not (member.has_data and verdict.identity is not None):
                own = member.volume.member
                reason = f"member {own.me} of etcd cluster {own.cluster}, {start.state}"
                verdict = replace(verdict, manifest=manifest, manifest_reason=reason)
        if complete:
            link = why_link(self.settings, self.facts, member, known.dns_suffix, self.findings)
            verdict = replace(verdict, link=link)
        return verdict

    def _certificates(self, member: MountedMember) -> tuple[Certificate, ...]:
        """The member's certificates; empty while one is missing."""
        wanted = member_certificates(member, self.settings.suffix(self.volumes.cluster_id))
        found = [self.pki.usable.get(one.name) for one in wanted]
        return tuple(one for one in found if one is not None) if all(found) else ()

    def _move(self, verdict: MemberVerdict, known: MemberFacts) -> tuple[MemberVerdict, bool]:
        """The verdict with the next step of a member that moves to TLS, and whether it has TLS from now on."""
        member = verdict.member
        if not self._certificates(member):
            self.findings.wait(member.volume.id, "it moves to TLS: its certificates are issued first", external=True)
            return verdict, False
        match next_step(known.name, self._served(member), self._answers(member), self._heard(member)):
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

    def _trusted(self, member: MountedMember, known: MemberFacts) -> str:
        """The authorities that the member's process is to be started with. A running one restarts in its turn."""
        trust = trust_of(self._certificates(member))
        ran_secure = member.has_data and manifest_env(member.manifest).get("ETCD_CERT_FILE")
        if not ran_secure or not restart_due(member, trust):
            return present_trust(member) if ran_secure else trust.trusted
        turn = may_restart(known.name, trust, self._served(member), self._heard(member), now=self.facts.now)
        if isinstance(turn, Turn):
            return trust.trusted
        reason = f"it restarts, since the authorities to trust have changed: {turn.reason}"
        self.findings.wait(member.volume.id, reason, external=True)
        return present_trust(member)

    def _tell(self, verdict: MemberVerdict, identity: Identity, known: MemberFacts) -> MemberVerdict:
        """The verdict with what a member tells the others about its authorities, and with its note of that."""
        member = verdict.member
        certificates = self._certificates(member)
        if not certificates or verdict.identity is not None:
            return verdict
        trust = trust_of(certificates)
        if not telling_due(member, identity, trust):
            return verdict
        served = self._served(member)
        if isinstance(served, Unknown) or not has_restarted(member, served, self.facts.now):
            why = served.reason if isinstance(served, Unknown) else "its process hasn't restarted yet"
            self.findings.wait(member.volume.id, f"it restarts with the authorities to trust: {why}", external=True)
            return verdict
        if served.told.get(known.name) != trust.told:
            return replace(verdict, tell=trust.told)
        told = replace(identity, told=trust.told)
        return replace(verdict, identity=told.render(), identity_reason="it has told the others what it trusts")

    def _answers(self, member: MountedMember) -> PeerAnswers | Unknown:
        return self.facts.answers.get(member.volume.member.cluster, Unknown("no peer was asked"))

    def _served(self, member: MountedMember) -> ServedEtcd | Unknown:
        return self.facts.served.get(member.volume.member.cluster, Unknown("it wasn't asked"))

    def _heard(self, member: MountedMember) -> frozenset[str]:
        """The names of the other members whose peer ports answer."""
        answers = self._answers(member)
        lists = answers.lists if isinstance(answers, PeerAnswers) else {}
        return frozenset(member.template.member_name(me) for me in lists)

    def _tags(self, member: MountedMember) -> tuple[TagWanted, ...]:
        """The tags to write: the filesystem's UUID, and that etcd ran."""
        if not self.facts.cloud.can_tag:
            return ()
        wanted = []
        if member.volume.volume.tags.get(FILESYSTEM_TAG) != member.uuid:
            reason = "lets a wrong or blank disk be detected later"
            wanted.append(TagWanted(FILESYSTEM_TAG, member.uuid, reason))
        if member.has_data and not member.volume.marked_bootstrapped:
            reason = "etcd has started; other members must not start a second cluster"
            wanted.append(TagWanted(BOOTSTRAPPED_TAG, "true", reason))
        return tuple(wanted)

    def _kubelet_may_run(self) -> bool:
        """Whether kubelet may run the member: always, unless its unit is known to be down."""
        unit = self.facts.node.unit
        if self.settings.kubelet_unit is None or unit is None or isinstance(unit, Unknown):
            return True
        return unit.active not in ("inactive", "failed")
