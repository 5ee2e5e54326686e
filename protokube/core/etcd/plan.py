"""Turns the verdict on each mounted member into actions."""

from __future__ import annotations

from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.etcd.actions import GiveTurnBack, TakeTurn, TellAuthorities, UpdateMember
from protokube.core.etcd.model import EtcdAssessment, LocalMember, MemberVerdict
from protokube.core.node.actions import MakeDirectory, MakeLink, Unlink, WriteFile
from protokube.core.steps import Plan
from protokube.core.volumes.actions import TagVolume


def plan(judged: EtcdAssessment, out: Plan) -> None:
    """Plan the members' next steps, and the removal of stale links."""
    out.add(judged.findings)
    asked = {one.cluster: one for one in judged.asked}
    for verdict in judged.verdicts:
        _plan_member(verdict, out)
        _plan_cluster(verdict, asked.get(verdict.member.volume.member.cluster), out)
    for stale in judged.stale_links:
        out.step(Unlink(stale.path), stale.reason)


def _plan_cluster(verdict: MemberVerdict, at: LocalMember | None, out: Plan) -> None:
    """Plan what the etcd cluster is to know of the member."""
    if at is None:
        return
    if verdict.secure_peer is not None:
        out.step(UpdateMember(at, verdict.secure_peer), "it moves to TLS, and then restarts")
    if verdict.tell is not None:
        out.step(TellAuthorities(at, verdict.tell), "the next member may restart")
    if verdict.turn is not None:
        out.step(
            TakeTurn(at, verdict.turn_before, verdict.turn), "its manifest changes, and one member restarts at a time"
        )
    if verdict.give_back is not None:
        out.step(GiveTurnBack(at, verdict.give_back), "it has restarted, and the next member may")


def _plan_member(verdict: MemberVerdict, out: Plan) -> None:
    member, volume = verdict.member, verdict.member.volume.id
    if verdict.identity is not None:
        action = WriteFile(member.path(IDENTITY_PATH), verdict.identity, 0o644, member.where)
        out.step(action, verdict.identity_reason, volume=volume, warning=verdict.warning)
    for tag in verdict.tags:
        out.step(TagVolume(volume, tag.key, tag.value), tag.reason, volume=volume)
    if verdict.make_data_dir:
        path = member.path(member.template.data_dir)
        out.step(MakeDirectory(path, 0o700, member.where), "etcd's data directory", volume=volume)
    if verdict.manifest is not None:
        written = WriteFile(member.path(member.template.manifest), verdict.manifest, 0o644, member.where)
        out.step(written, verdict.manifest_reason, volume=volume)
    if verdict.link is not None:
        out.step(MakeLink(member.link, member.path(member.template.manifest)), verdict.link, volume=volume)
