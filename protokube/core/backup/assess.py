"""When a backup is due, and who takes it: the member that leads, once the newest backup is older than the interval.

Nobody coordinates. Every member looks at the store when a backup is due, and only the leader takes one. A leader that
was deposed and doesn't know it yet takes one too many, which harms nobody. The store is asked only while a backup is
due, and at the start: a converged node makes no call to it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from protokube.core.backup.model import (
    BackedUp,
    BackupAnswers,
    BackupAssessment,
    BackupFacts,
    BackupRecord,
    BackupSettings,
    BackupWork,
    DueBackup,
    Removal,
)
from protokube.core.backup.names import is_future
from protokube.core.backup.retention import expired
from protokube.core.backup.tracking import BackupTracking, Known
from protokube.core.model import Moment, Unknown
from protokube.core.pki.model import Unreadable
from protokube.core.steps import Findings

ASK_AGAIN = 60.0
"""Seconds between two questions to a store while a backup is due."""

TRY_AGAIN = 300.0
"""Seconds after a backup that failed, at most, until the next try."""

LATE = 3
"""Intervals after which a backup is late."""

TROUBLE = 86400.0
"""Seconds without a backup that are trouble."""


def assess(
    settings: BackupSettings,
    facts: BackupFacts,
    at: Moment,
    tracking: BackupTracking,
    needs: tuple[str, Sequence[BackedUp]],
) -> BackupAssessment:
    """Judge the backups of the members that run on this machine. `needs`: the cluster's id, and these members."""
    cluster, members = needs[0], tuple(needs[1])
    findings = Findings()
    if settings.every is None or not members:
        return BackupAssessment(cluster)
    if facts.work is None:
        return BackupAssessment(cluster, members)
    judge = _Judge(settings, settings.every, facts, at, tracking, findings)
    asks = tuple(one for one in members if judge.asks(one))
    due = tuple(filter(None, (judge.due(one) for one in members)))
    removals = tuple(filter(None, (judge.removal(one) for one in members)))
    for one in members:
        judge.report(one)
    return BackupAssessment(cluster, members, asks, due, removals, findings)


class _Judge(Struct, frozen=True):
    settings: BackupSettings
    every: float
    facts: BackupFacts
    at: Moment
    tracking: BackupTracking
    findings: Findings

    def _known(self, etcd: str) -> Known:
        return self.tracking.known.get(etcd, Known(None, None, self.at.uptime))

    def _age(self, record: BackupRecord | None) -> float | None:
        """How old a backup is; None for none, and for one of a wrong clock."""
        if record is None or is_future(record.name, self.at.now):
            return None
        return max(0.0, self.at.now - record.at)

    def _why_due(self, etcd: str) -> str | None:
        """Why a backup is due; None when it isn't."""
        newest = self._known(etcd).newest
        age = self._age(newest)
        if age is None:
            return "there is none" if newest is None else "the newest is from the future: a clock was wrong"
        return f"the newest is {spell_age(age)} old" if age >= self.every else None

    def _work(self, etcd: str) -> BackupWork | None:
        work = (self.facts.work or {}).get(etcd)
        return work if isinstance(work, BackupWork) else None

    def _may_try(self, etcd: str) -> bool:
        work = self._work(etcd)
        if work is None or work.working:
            return False
        return not work.failure or work.failed_for >= min(TRY_AGAIN, self.every)

    def asks(self, member: BackedUp) -> bool:
        """Whether the store and etcd are asked now."""
        etcd, known = member.etcd, self._known(member.etcd)
        if etcd in self.facts.answers or not self._may_try(etcd):
            return False
        if known.asked is None:
            return True
        return self._why_due(etcd) is not None and self.at.uptime - known.asked >= min(ASK_AGAIN, self.every)

    def due(self, member: BackedUp) -> DueBackup | None:
        """The backup to take now: only what was asked in this very reconcile tells."""
        answers = self.facts.answers.get(member.etcd)
        reason = self._why_due(member.etcd)
        if not isinstance(answers, BackupAnswers) or answers.leads is not True or reason is None:
            return None
        return DueBackup(member, reason) if self._may_try(member.etcd) else None

    def removal(self, member: BackedUp) -> Removal | None:
        """The backups that the leader deletes now."""
        answers = self.facts.answers.get(member.etcd)
        if not isinstance(answers, BackupAnswers) or answers.leads is not True:
            return None
        restoring, older = answers.restoring, answers.older
        if isinstance(restoring, Unknown):
            self._keep_all(member.etcd, f"a restore may need them ({restoring.reason})")
            return None
        if isinstance(older, Unknown):
            self._keep_all(member.etcd, f"which are of an older cluster isn't known ({older.reason})")
            return None
        needed = () if restoring is None else (restoring,)
        names = expired(answers.listing, self.settings, self.at.now, needed, older)
        return Removal(member.etcd, names) if names else None

    def _keep_all(self, etcd: str, why: str) -> None:
        reason = f"no old ones are deleted: {why}"
        self.findings.refuse(f"backups of {etcd}", "store/unreadable", reason, serious=False)

    def report(self, member: BackedUp) -> None:
        """Report the newest backup, and what is wrong."""
        etcd, known, findings = member.etcd, self._known(member.etcd), self.findings
        subject = f"backups of {etcd}"
        work = (self.facts.work or {}).get(etcd)
        if isinstance(work, Unknown):
            findings.not_known(subject, work.reason)
        elif work is not None and work.working:
            findings.hints.append(f"{subject}: one is being taken")
        elif work is not None and work.failure:
            findings.refuse(subject, "etcd/backup-failed", work.failure, serious=False)
        if known.trouble is not None:
            rule = known.trouble.rule if isinstance(known.trouble, Unreadable) else "store/unreadable"
            findings.refuse(subject, rule, known.trouble.reason, serious=False)
        for fault in known.unreadable:
            findings.refuse(subject, "store/unreadable", f"{fault}; it doesn't count as the newest", serious=False)
        if known.asked is None:
            return
        newest, age = known.newest, self._age(known.newest)
        if newest is not None and age is not None:
            proof = "proven" if newest.proven else "not proven"
            findings.hints.append(f"{subject}: the newest is {newest.name}, {spell_age(age)} old, {proof}")
        late_for = self.at.uptime - known.first if age is None else age
        if late_for > LATE * self.every:
            told = f"the newest is {spell_age(late_for)} old" if age is not None else "there is none"
            evidence = f"{told} (expected one every {spell_age(self.every)}); see why: protokube etcd backups"
            findings.refuse(subject, "etcd/backup-late", evidence, serious=late_for > TROUBLE)
        elif newest is not None and not newest.proven:
            findings.refuse(subject, "etcd/backup-unproven", f"{newest.name}: {newest.proof}", serious=False)


def spell_age(seconds: float) -> str:
    """A time, for people."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
