"""What earlier reconciles have learnt about backups. Losing it costs one more question to the store."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from protokube.core.backup.model import BackupAnswers, BackupRecord, BackupWork
from protokube.core.model import Unknown


class Known(Struct, frozen=True):
    """What is known of an etcd cluster's backups: the newest one that was ever seen, when the store was asked last
    (`asked`, in seconds of uptime), and when first."""

    newest: BackupRecord | None
    asked: float | None
    first: float
    trouble: Unknown | None = None


class BackupTracking(Struct, frozen=True):
    """What is known, by etcd cluster."""

    known: Mapping[str, Known] = {}

    def seen(
        self,
        uptime: float,
        work: Mapping[str, BackupWork | Unknown] | None,
        answers: Mapping[str, BackupAnswers | Unknown],
    ) -> BackupTracking:
        """Take in a snapshot. A backup that was once seen stays known, whatever an old answer says."""
        known = dict(self.known)
        for etcd, one in (work or {}).items():
            before = known.get(etcd, Known(None, None, uptime))
            last = one.last if isinstance(one, BackupWork) else None
            known[etcd] = Known(_newer(before.newest, last), before.asked, before.first, before.trouble)
        for etcd, answer in answers.items():
            before = known.get(etcd, Known(None, None, uptime))
            trouble = answer if isinstance(answer, Unknown) else None
            newest = None if isinstance(answer, Unknown) else answer.newest
            known[etcd] = Known(_newer(before.newest, newest), uptime, before.first, trouble)
        return self if known == self.known else BackupTracking(known)


def _newer(one: BackupRecord | None, other: BackupRecord | None) -> BackupRecord | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda record: record.name)
