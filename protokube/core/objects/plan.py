"""The judgement of objects → actions."""

from __future__ import annotations

from protokube.core.objects.actions import ApplyObject, DecideRequest
from protokube.core.objects.model import ObjectsAssessment
from protokube.core.steps import Plan


def plan(judged: ObjectsAssessment, out: Plan) -> None:
    """Plan this concern's actions."""
    out.add(judged.findings)
    for one in judged.apply:
        out.step(ApplyObject.of(one.manifest), one.reason)
    for name, verdict in judged.decide.items():
        out.step(DecideRequest(name, verdict.approve, verdict.reason), verdict.reason, warning=not verdict.approve)
