"""Turns the judgement of kubelet into actions on its files and its unit."""

from __future__ import annotations

from protokube.core.kubelet.model import KubeletAssessment
from protokube.core.node.actions import RestartUnit, StartUnit, WriteFile
from protokube.core.steps import Plan


def plan(judged: KubeletAssessment, out: Plan) -> None:
    """Plan kubelet's files and unit."""
    out.add(judged.findings)
    for file in judged.files:
        out.step(WriteFile(file.path, file.text), file.reason)
    if (unit := judged.unit) is not None:
        action = RestartUnit(unit.unit) if unit.restart else StartUnit(unit.unit)
        out.step(action, unit.reason, warning=unit.warning)
