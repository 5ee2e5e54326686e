"""Turns the verdict on each disk into an action."""

from __future__ import annotations

from protokube.core.disks.actions import (
    CheckFilesystem,
    FormatVolume,
    GrowFilesystem,
    MountVolume,
    TakeBackFirstStart,
)
from protokube.core.disks.model import DisksAssessment, Todo, Verdict
from protokube.core.node.actions import RemoveFile
from protokube.core.steps import Plan


def plan(judged: DisksAssessment, out: Plan) -> None:
    """Plan the next action for each disk, and the removal of acceptances that are used up."""
    out.add(judged.findings)
    for verdict in judged.verdicts:
        out.step(_action(verdict), verdict.reason, volume=verdict.volume.id, warning=verdict.warning)
    for one, data_dir in judged.cut_off:
        where = judged.mounted[one.id]
        out.step(
            TakeBackFirstStart(one.id, where.target, where.number, data_dir),
            "etcd's first start was cut off before its first entry, and it would never serve",
            volume=one.id,
            warning=True,
        )
    for acceptance, reason in judged.used_up:
        out.step(RemoveFile(acceptance.path), f"it is used up: {reason}")


def _action(verdict: Verdict) -> FormatVolume | CheckFilesystem | GrowFilesystem | MountVolume:
    volume, disk = verdict.volume, verdict.disk
    proven = (volume.id, disk.device, disk.number, disk.size, volume.volume.identity)
    match verdict.todo:
        case Todo.FORMAT:
            assert verdict.intent is not None
            return FormatVolume(*proven, verdict.intent, verdict.label)
        case Todo.CHECK:
            return CheckFilesystem(*proven, verdict.uuid)
        case Todo.GROW:
            return GrowFilesystem(*proven, verdict.uuid)
        case Todo.MOUNT:
            return MountVolume(*proven, verdict.uuid, volume.target)
