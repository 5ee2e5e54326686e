"""From a mounted volume to a linked manifest: identity, data directory, manifest, and the link, in that order.

No etcd without its volume: the manifest lives on the volume, and kubelet's folder has only a link to it. While the
volume isn't mounted the link leads nowhere, and kubelet starts no etcd on an empty directory.
"""

from __future__ import annotations

from msgspec import field
from msgspec.structs import replace

from protokube.core.backup.model import RESTORE_MARK
from protokube.core.disks.model import DisksAssessment, VolumeContents
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.etcd.answers import AnswerTracking
from protokube.core.etcd.bootstrap import MemberFacts, Start, Wait, initial_state, needs_peers, with_backups
from protokube.core.etcd.changes import Changes
from protokube.core.etcd.links import awaits_names, member_names, stale_links, why_link
from protokube.core.etcd.manifest import Wanted, wanted_manifest
from protokube.core.etcd.members import first_identity, mounted_members
from protokube.core.etcd.migration import wants_tls
from protokube.core.etcd.model import EtcdAssessment, EtcdFacts, EtcdSettings, MemberVerdict, MountedMember, TagWanted
from protokube.core.etcd.reported import health_questions, report_health
from protokube.core.etcd.sight import Before
from protokube.core.etcd.versions import image_to_run
from protokube.core.model import Rejected, Unknown
from protokube.core.steps import Findings
from protokube.core.volumes.model import BOOTSTRAPPED_TAG, FILESYSTEM_TAG


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


class _Judge(Changes, frozen=True):
    """Judges one member after the other. `backed_up`: the etcd clusters of which backups would bar a start."""

    backed_up: list[str] = field(default_factory=list)

    def member(self, member: MountedMember) -> MemberVerdict:
        """Judge one mounted member: decide its next step."""
        volume = member.volume
        identity = self.identified(member)
        if isinstance(identity, Rejected):
            self.findings.refuse(volume.id, identity.rule, identity.evidence)
            # A wrong tag or file stops no member that runs, and starts none.
            return MemberVerdict(member, keep_link=member.has_data)
        if RESTORE_MARK in member.contents.entries:
            self.findings.wait(volume.id, "its data are being restored: protokube etcd restore", external=True)
            return MemberVerdict(member, keep_link=False)
        verdict = MemberVerdict(member, keep_link=True)
        overruled = self.owned(member).overruled
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
        if member.has_data and (started := self.as_started(member, identity)) != identity:
            # Recorded before any image is judged: the version that ran decides which step is legal.
            reason = f"etcd {started.etcd_version or 'of an unknown version'} has started"
            verdict = replace(verdict, identity=started.render(), identity_reason=reason)
            identity = started
        known = self.known(member, identity)
        if wants_tls(self.settings, member) and not known.tls:
            verdict, tls = self.move(verdict, known)
            known = replace(known, tls=tls)
        elif known.tls and member.has_data:
            verdict = self.tell(verdict, identity, known)
        start = self._unless_backed_up(member, initial_state(self.volumes, known, self.peer_facts(member)))
        if not isinstance(start, Start):
            return self._not_started(verdict, start, known)
        image = image_to_run(self.settings, member, identity)
        if isinstance(image, Rejected):
            self.findings.refuse(volume.id, image.rule, image.evidence)
            return verdict
        verdict = self._start(verdict, start, self.image(member, image, known), known)
        return self.after_turn(verdict, known) if member.has_data else verdict

    def _unless_backed_up(self, member: MountedMember, start: Start | Rejected | Wait) -> Start | Rejected | Wait:
        """What is to be done, unless a cluster would be born of which the store has backups."""
        may_have_some = self.settings.store_shared or self.settings.takes_backups
        if not isinstance(start, Start) or start.state != "new" or not may_have_some:
            return start
        cluster = member.volume.member.cluster
        self.backed_up.append(cluster)
        return with_backups(member.volume.member, self.facts.kept.get(cluster)) or start

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
        if known.tls and not self.certificates(member):
            # The PKI's own findings tell why. A member that runs keeps its link.
            self.findings.wait(member.volume.id, "its certificates are issued first")
            return verdict
        wanted = Wanted(start, image, known.dns_suffix, None)
        if known.tls:
            wanted = replace(wanted, trusted=self.trusted(member, known), clients=self.clients())
        elif self.settings.node_clients:
            self._no_clients(member)
        manifest = wanted_manifest(self.settings, member, wanted, may_run=self.kubelet_may_run())
        if manifest != member.contents.texts.get(member.template.manifest):
            complete = False
            # The manifest tells which version ran: it is replaced only once the identity file holds that.
            if not (member.has_data and verdict.identity is not None):
                own = member.volume.member
                reason = f"member {own.me} of etcd cluster {own.cluster}, {start.state}"
                running = wanted_manifest(self.settings, member, wanted, may_run=True) != member.manifest
                if member.has_data and member.manifest and running and self.is_linked(member):
                    verdict = self.in_turn(verdict, known, manifest, reason)
                else:
                    verdict = replace(verdict, manifest=manifest, manifest_reason=reason)
        if complete:
            link = why_link(self.settings, self.facts, member, known.dns_suffix, self.findings)
            verdict = replace(verdict, link=link)
        return verdict

    def _no_clients(self, member: MountedMember) -> None:
        evidence = (
            "it listens to clients at 127.0.0.1 alone, and not at this node's address (--etcd-clients-listen node), "
            "since it runs without TLS: who reaches that port could read and write all; move it with --etcd-tls on"
        )
        self.findings.refuse(member.volume.id, "etcd/clients-listen", evidence, serious=False)

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
