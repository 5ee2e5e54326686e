"""Judges which objects differ from what is wanted.

An object is as it should be when it has every field that is wanted. Fields that others have added are left alone: the
API server fills in defaults, and controllers and people set their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from protokube.core.objects.channels import next_step
from protokube.core.objects.joining import joins
from protokube.core.objects.joining import judge as judge_joining
from protokube.core.objects.model import ObjectFacts, ObjectsAssessment, ObjectWanted
from protokube.core.objects.requests import NODE_USER, Known, Request, RequestNames, Reserved, Verdict
from protokube.core.objects.serving import judge
from protokube.core.steps import Findings

_API = "API server"
SIGNER_READ = 90.0
"""Seconds after which the controller manager has read an exchanged authority: it looks once a minute."""


def assess(
    wanted: tuple[ObjectWanted, ...], facts: ObjectFacts, reserved: Reserved, node: str = ""
) -> ObjectsAssessment:
    """Judge the objects, if the API server was asked in this reconcile. `reserved`: what of this node's API server no
    other node may have. `node`: the name of this one."""
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
        elif present is not None and one.only_absent:
            continue
        elif not has_fields(present, one.manifest):
            differing.append(one)
    judged = _with_addons(judged, facts, node)
    return replace(judged, apply=tuple(differing), decide=tuple(_verdicts(facts, reserved, findings)))


def _with_addons(judged: ObjectsAssessment, facts: ObjectFacts, node: str) -> ObjectsAssessment:
    """The judgement with the addons' next steps, or with what they wait for: one node writes at a time."""
    steps = [next_step(one, judged.findings, node) for one in facts.channels]
    addons = tuple(one for one in steps if one is not None)
    if not addons:
        return judged
    if facts.lease.alive and facts.lease.holder == node:
        return replace(judged, addons=addons)
    if facts.lease.alive:
        names = ", ".join(one.channel for one in addons)
        judged.findings.wait(f"addons {names}", f"{facts.lease.holder} applies them", external=True)
        return judged
    return replace(judged, lease=node)


def _verdicts(facts: ObjectFacts, reserved: Reserved, findings: Findings) -> Iterator[tuple[Request, Verdict]]:
    if facts.requests and facts.signer_age is not None and 0 <= facts.signer_age < SIGNER_READ:
        # Signed now, it could be by the authority before, which is to be forgotten.
        findings.wait("requests", "the controller manager reads the new authority first", external=True)
        return
    names = reserved.names | facts.control_plane
    reserved = replace(reserved, addresses=reserved.addresses | facts.reserved, names=names)
    known = Known(frozenset(facts.nodes), facts.tokens, facts.certified, facts.claimed, facts.alive)
    for request in facts.requests:
        if joins(request):
            verdict: Verdict | None = judge_joining(request, known, reserved)
        else:
            verdict = judge(request, facts.nodes, reserved)
        if verdict is None:
            findings.wait(f"request {request.name}", f"{request.user} has no Node yet", external=True)
            continue
        if verdict.approve and joins(request) and isinstance(request.names, RequestNames):
            name = request.names.common_name.removeprefix(NODE_USER)
            known = replace(known, certified=known.certified | {name})
        if not verdict.approve:
            findings.refuse(
                f"request {request.name}", "kubelet/csr-refused", f"{request.user}: {verdict.reason}", serious=False
            )
        yield request, verdict


def has_fields(present: Any, wanted: Any) -> bool:
    """Whether a value has everything that is wanted. A list has as many items, each with what is wanted of it."""
    if isinstance(wanted, Mapping):
        return isinstance(present, Mapping) and all(
            key in present and has_fields(present[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return isinstance(present, Sequence) and len(present) == len(wanted) and all(map(has_fields, present, wanted))
    return bool(present == wanted)
