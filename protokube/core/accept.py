"""Decides whether a refusal may be overruled now: what was found, what the rule protects, what will happen."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from protokube.core.assess import Assessment
from protokube.core.disks.accepted import Acceptance, Ownership, Request
from protokube.core.disks.overrulable import PROTECTS, why_not
from protokube.core.disks.ownership import EMPTY
from protokube.core.steps import Findings
from protokube.core.volumes.model import FILESYSTEM_TAG, MemberVolume, VolumesAssessment


class Overruling(Struct, frozen=True):
    """What is to be accepted, what the rule protects, and what will happen."""

    acceptance: Acceptance
    protects: str
    effects: tuple[str, ...]

    def as_text(self) -> str:
        """The whole of it, for the operator's decision."""
        one = self.acceptance
        lines = [f"{one.volume_id}, filesystem {one.filesystem}, is refused by {one.rule}.", "Found:"]
        lines += [f"  {evidence}" for evidence in one.evidence]
        lines += ["The rule protects:", f"  {self.protects}", "What will happen, once:"]
        return "\n".join([*lines, *(f"  {effect}" for effect in self.effects)])


def decide(request: Request, judged: Assessment, now: float) -> Overruling | str:
    """Decide about a request; a text says why it is refused. `now` is in seconds since the epoch."""
    if why := why_not(request.rule):
        return f"{request.rule}: {why}"
    if judged.volumes is None or judged.disks is None or judged.etcd is None:
        return f"{request.volume_id}: the cloud's volumes aren't known, so that nothing is judged; try again"
    findings = Findings()
    for part in (judged.volumes.findings, judged.disks.findings, judged.etcd.findings):
        findings.add(part)
    volume = next((one for one in judged.disks.attached if one.id == request.volume_id), None)
    if volume is None:
        return f"{request.volume_id}: {_not_here(request.volume_id, judged.volumes, findings)}"
    owned = judged.disks.ownerships.get(volume.id)
    if (problem := _problem(request, owned, findings)) is not None or owned is None:
        return f"{volume.id}: {problem}"
    evidence = tuple(one.evidence for one in owned.refused if one.rule == request.rule)
    acceptance = Acceptance(request.rule, volume.id, owned.filesystem, evidence, now)
    return Overruling(acceptance, PROTECTS[request.rule], tuple(_effects(request.rule, volume, owned)))


def _not_here(volume_id: str, volumes: VolumesAssessment, findings: Findings) -> str:
    if refused := [f"{one.rule}: {one.evidence}" for one in findings.refusals if one.subject == volume_id]:
        return f"it is refused before its disk is looked at, by {'; '.join(refused)}"
    known = ", ".join(one.id for one in volumes.ours.values()) or "none"
    return f"no volume that is attached to this machine (expected one of {known}); where it is attached, accept there"


def _problem(request: Request, owned: Ownership | None, findings: Findings) -> str | None:
    """Why the refusal can't be overruled now; None when it can be."""
    if unread := [one.reason for one in findings.unknown if one.subject == request.volume_id]:
        return f"it can't be read, so that there is no judgement to overrule: {'; '.join(unread)}"
    others = [f"{one.rule}: {one.evidence}" for one in findings.refusals if one.subject == request.volume_id]
    others += [one.reason for one in findings.waiting if one.subject == request.volume_id]
    state = "; ".join(others) or "nothing refuses it"
    if owned is None:
        return f"no filesystem was read on it ({state})"
    if owned.filesystem != request.filesystem:
        return f"its filesystem is {owned.filesystem} now (expected {request.filesystem}, as given)"
    refused = [one for one in owned.refused if one.rule == request.rule]
    if any(one.final for one in refused):
        return f"{refused[0].evidence}: this can't be overruled; move it away"
    if not refused:
        return f"{request.rule} does not refuse it for its filesystem ({state})"
    return None


def _effects(rule: str, volume: MemberVolume, owned: Ownership) -> Iterator[str]:
    also = [one.rule for one in owned.refused if one.rule != rule and not _is_accepted(one.rule, owned)]
    if also:
        yield f"nothing, until {' and '.join(dict.fromkeys(also))} is overruled or cleared as well; then:"
    if not owned.mounted:
        yield f"the filesystem is checked (e2fsck -p, which may write to it) and mounted at {volume.target}"
    member = volume.member
    yield f"its identity file is written for member {member.me} of etcd cluster {member.cluster}"
    if volume.volume.tags.get(FILESYSTEM_TAG, owned.filesystem) != owned.filesystem:
        yield f"the volume's tag {FILESYSTEM_TAG} becomes {owned.filesystem}"
    if owned.has_data:
        yield f"etcd starts on the data that stands there, as {member.me}"
    elif {one.rule for one in owned.refused} == {EMPTY} and not volume.marked_bootstrapped:
        yield "the member may start empty, like on a filesystem that protokube has made"
    else:
        yield "the member counts as having run; without data it is refused by etcd/data-lost, and never starts as new"


def _is_accepted(rule: str, owned: Ownership) -> bool:
    return any(one.rule == rule for one in owned.accepted)
