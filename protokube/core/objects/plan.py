"""The judgement of objects → actions."""

from __future__ import annotations

from protokube.core.objects.actions import ApplyObject, DecideRequest, RemoveObject, TakeLease
from protokube.core.objects.channels import manager
from protokube.core.objects.model import ObjectsAssessment
from protokube.core.steps import Plan


def plan(judged: ObjectsAssessment, out: Plan) -> None:
    """Plan this concern's actions."""
    out.add(judged.findings)
    for one in judged.apply:
        out.step(ApplyObject.of(one.manifest), one.reason)
    for step in judged.addons:
        owner = manager(step.channel)
        if step.record is not None:
            out.step(ApplyObject.of(step.record.manifest), step.record.reason)
        for one in step.apply:
            out.step(ApplyObject.of(one.manifest, owner), one.reason)
        for key in step.remove:
            out.step(RemoveObject(key, owner), f"the addon channel {step.channel} has it no more")
    if judged.lease is not None:
        out.step(TakeLease(judged.lease), "addons differ, and no other node applies them")
    for request, verdict in judged.decide:
        action = DecideRequest(request.name, request.uid, verdict.approve, verdict.reason, verdict.claim)
        out.step(action, verdict.reason, warning=not verdict.approve)
