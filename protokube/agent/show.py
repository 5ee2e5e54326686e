"""What people see: the pods that run and why not, and the plan of a dry run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protokube.agent.core.model import Json, Pod
from protokube.agent.core.plan import Delete, Nothing, Step, Wait
from protokube.agent.core.pods import key_of, owner_of, phase_of, title
from protokube.errors import explain


def reported(directory: Path) -> list[Pod]:
    """The pods as they were reported last. Raises ProviderError."""
    with explain(f"read {directory}"):
        if not directory.is_dir():
            return []
        return [json.loads(path.read_text()) for path in sorted(directory.glob("[!.]*.json"))]


def pods_text(pods: Sequence[Pod]) -> str:
    """A table of pods, and under each what is wrong with it."""
    if not pods:
        return "no pods"
    rows = [("NAMESPACE", "NAME", "PHASE", "READY", "RESTARTS", "SOURCE")]
    notes: list[str] = []
    for pod in sorted(pods, key=key_of):
        containers: list[Json] = (pod.get("status") or {}).get("containerStatuses") or []
        ready = sum(bool(one.get("ready")) for one in containers)
        restarts = sum(int(one.get("restartCount", 0)) for one in containers)
        rows.append(
            (*key_of(pod), phase_of(pod), f"{ready}/{len(containers)}", str(restarts), owner_of(pod) or "nobody's")
        )
        notes += [f"{title(pod)}: {why}" for why in _whys(pod)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *notes])


def _whys(pod: Pod) -> list[str]:
    status = pod.get("status") or {}
    found = [status["message"]] if status.get("message") else []
    for one in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("message") and waiting["message"] not in found:
            found.append(f"container {one['name']}: {waiting['reason']}: {waiting['message']}")
    return found


def step_json(uid: str, pod: Pod, step: Step) -> Json:
    """A step as a record."""
    made: dict[str, Any] = {"pod": title(pod), "uid": uid, "step": type(step).__name__.lower()}
    if isinstance(step, Delete | Wait | Nothing) and step.reason:
        made["reason"] = step.reason
    if isinstance(step, Delete):
        made["grace"] = step.grace
    return made


def plan_text(steps: Sequence[Json]) -> str:
    """The plan, a step a line."""
    changing = [one for one in steps if one["step"] != "nothing"]
    lines = [f"{one['step']} {one['pod']}" + (f": {one['reason']}" if "reason" in one else "") for one in changing]
    idle = [one for one in steps if one["step"] == "nothing" and "reason" in one]
    kept = [f"left alone: {one['pod']}: {one['reason']}" for one in idle]
    return "\n".join([*lines, *kept]) or "nothing to do"
