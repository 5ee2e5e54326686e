"""What earlier reconciles have learnt about backups. Losing it costs one more question to the store."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from protokube.core.backup.model import BackupAnswers, BackupRecord, BackupWork
from protokube.core.backup.names import is_future
from protokube.core.model import Moment, Unknown


class Known(Struct, frozen=True):
    """What is known of an etcd cluster's backups: the newest one that was ever seen, when the store was asked last
    (`asked`, in seconds of uptime), and when first. `unreadable`: newer ones, and why they can't be read."""

    newest: BackupRecord | None
    asked: float | None
    first: float
    trouble: Unknown | None = None
    unreadable: tuple[str, ...] = ()


class BackupTracking(Struct, frozen=True):
    """What is known, by etcd cluster."""

    known: Mapping[str, Known] = {}

    def seen(
        self,
        at: Moment,
        work: Mapping[str, BackupWork | Unknown] | None,
        answers: Mapping[str, BackupAnswers | Unknown],
    ) -> BackupTracking:
        """Take in a snapshot. A backup that was once seen stays known, whatever an old answer says."""
        known, uptime = dict(self.known), at.uptime
        for etcd, one in (work or {}).items():
            before = known.get(etcd, Known(None, None, uptime))
            last = one.last if isinstance(one, BackupWork) else None
            known[etcd] = replace(before, newest=_newer(before.newest, last, at.now))
        for etcd, answer in answers.items():
            before = known.get(etcd, Known(None, None, uptime))
            trouble = answer if isinstance(answer, Unknown) else None
            newest = None if isinstance(answer, Unknown) else answer.newest
            unreadable = before.unreadable if isinstance(answer, Unknown) else answer.unreadable
            newest = _newer(before.newest, newest, at.now)
            known[etcd] = Known(newest, uptime, before.first, trouble, unreadable)
        return self if known == self.known else BackupTracking(known)


def _newer(one: BackupRecord | None, other: BackupRecord | None, now: float) -> BackupRecord | None:
    """The newer one. One of a wrong clock is never the newer one for ever."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda record: (not is_future(record.name, now), record.name))
