"""Turns the judgement of the volumes into actions: one volume to request, and this node's addresses to announce."""

from __future__ import annotations

from protokube.core.steps import Plan
from protokube.core.volumes.actions import AnnounceAddresses, AttachVolume
from protokube.core.volumes.model import VolumesAssessment


def plan(judged: VolumesAssessment, out: Plan) -> None:
    """Plan the actions on the cloud."""
    out.add(judged.findings)
    if judged.announce is not None:
        instance = judged.instance
        out.step(AnnounceAddresses(instance.id, instance.internal, instance.external), judged.announce)
    if judged.claim is not None:
        claimed = judged.claim.volume.id
        out.step(AttachVolume(claimed), judged.claim.reason, volume=claimed)
