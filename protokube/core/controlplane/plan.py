"""Turns the judgement of the control plane into actions on its files and links."""

from __future__ import annotations

from protokube.core.controlplane.model import ComponentVerdict, ControlPlaneAssessment
from protokube.core.controlplane.paths import pod_path
from protokube.core.node.actions import MakeLink, RemoveFile, Unlink, WriteFile
from protokube.core.steps import Plan


def plan(judged: ControlPlaneAssessment, out: Plan) -> None:
    """Plan each component's next step."""
    out.add(judged.findings)
    if judged.turn is not None:
        out.step(judged.turn, "API servers are changed one after the other")
    for verdict in judged.verdicts:
        _plan_component(verdict, out)


def _plan_component(verdict: ComponentVerdict, out: Plan) -> None:
    for file in verdict.files:
        action = WriteFile(file.path, file.text, file.mode, before=file.before)
        out.step(action, file.reason, warning=file.warning)
    if verdict.link is not None:
        out.step(MakeLink(verdict.manifest, pod_path(verdict.component)), verdict.link)
    if verdict.unlink is not None:
        out.step(Unlink(verdict.manifest), verdict.unlink)
    for path in verdict.stale:
        out.step(RemoveFile(path), "no pod names it any more")
