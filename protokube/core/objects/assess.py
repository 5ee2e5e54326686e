"""Judges which objects differ from what is wanted.

An object is as it should be when it has every field that is wanted. Fields that others have added are left alone: the
API server fills in defaults, and controllers and people set their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from protokube.core.objects.model import ObjectFacts, ObjectsAssessment, ObjectWanted
from protokube.core.objects.serving import Reserved, Verdict, judge
from protokube.core.steps import Findings

_API = "API server"


def assess(wanted: tuple[ObjectWanted, ...], facts: ObjectFacts, reserved: Reserved) -> ObjectsAssessment:
    """Judge the objects, if the API server was asked in this reconcile. `reserved`: what of this node's API server no
    other node may have."""
    findings = Findings()
    judged = ObjectsAssessment(wanted, findings=findings)
    if not facts.asked or not wanted:
        return judged
    if facts.not_ready is not None:
        findings.wait(_API, facts.not_ready, external=True)  # kubelet brings it up, and takes its time
        return judged
    differing = []
    for one in wanted:
        if one.key not in facts.found:
            continue
        present = facts.found[one.key]
        if present is None and one.only_present:
            findings.wait(str(one.key), "it isn't there yet", external=True)
        elif not has_fields(present, one.manifest):
            differing.append(one)
    return replace(judged, apply=tuple(differing), decide=_verdicts(facts, reserved, findings))


def _verdicts(facts: ObjectFacts, reserved: Reserved, findings: Findings) -> Mapping[str, Verdict]:
    decided = {}
    reserved = replace(reserved, addresses=reserved.addresses | facts.reserved)
    for request in facts.requests:
        verdict = judge(request, facts.nodes, reserved)
        if verdict is None:
            findings.wait(f"request {request.name}", f"{request.user} has no Node yet", external=True)
        else:
            decided[request.name] = verdict
        if verdict is not None and not verdict.approve:
            findings.refuse(
                f"request {request.name}", "kubelet/csr-refused", f"{request.user}: {verdict.reason}", serious=False
            )
    return decided


def has_fields(present: Any, wanted: Any) -> bool:
    """Whether a value has everything that is wanted. A list has as many items, each with what is wanted of it."""
    if isinstance(wanted, Mapping):
        return isinstance(present, Mapping) and all(
            key in present and has_fields(present[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return isinstance(present, Sequence) and len(present) == len(wanted) and all(map(has_fields, present, wanted))
    return bool(present == wanted)
