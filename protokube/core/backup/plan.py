"""Turns the judgement of backups into actions."""

from __future__ import annotations

from protokube.core.backup.actions import RemoveBackups, TakeBackup
from protokube.core.backup.model import BackupAssessment
from protokube.core.steps import Plan


def plan(judged: BackupAssessment, out: Plan) -> None:
    """Plan the backups that are due, and the removal of old ones."""
    out.add(judged.findings)
    for due in judged.due:
        out.step(TakeBackup(judged.cluster, due.member, due.reason), due.reason)
    for removal in judged.removals:
        out.step(RemoveBackups(judged.cluster, removal.etcd, removal.names), "newer ones are kept")
