"""The memory between reconciles, and within one. Losing it at any moment costs delay, never an effect."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from protokube.core.action import Action
from protokube.core.backup.tracking import BackupTracking
from protokube.core.disks.model import Disk, NoDisk
from protokube.core.dns.actions import ChangeRecords
from protokube.core.dns.model import REMOVALS
from protokube.core.dns.owners import OwnerTracking, owners
from protokube.core.etcd.answers import AnswerTracking
from protokube.core.kubelet.backoff import UnitTracking
from protokube.core.model import Unknown
from protokube.core.node.actions import RestartUnit, StartUnit
from protokube.core.observed import Observed
from protokube.core.volumes.actions import AttachVolume
from protokube.core.volumes.tracking import AttachTracking


class Result(StrEnum):
    """The outcome of an action.

    `UNCERTAIN`: it may have had its effect. `DENIED`: it is impossible for this subject, and may be possible for
    another. `CONFLICT`: the same action may succeed at once.
    """

    DONE = "done"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    DENIED = "denied"
    CONFLICT = "conflict"


class History(Struct, frozen=True):
    """The memory of each concern. `failed` are the subjects whose actions failed in this reconcile."""

    attachments: AttachTracking = AttachTracking()
    answers: AnswerTracking = AnswerTracking()
    owners: OwnerTracking = OwnerTracking()
    units: UnitTracking = UnitTracking()
    backups: BackupTracking = BackupTracking()
    failed: frozenset[str] = frozenset()

    def seen(self, observed: Observed) -> History:
        """Take in a snapshot: record since when its facts have been so."""
        disks = {
            volume_id: isinstance(disk, Disk)
            for volume_id, disk in observed.storage.disks.items()
            if isinstance(disk, Disk | NoDisk)
        }
        return replace(
            self,
            attachments=self.attachments.seen(observed.at.uptime, observed.cloud, disks),
            answers=self.answers.seen(observed.at.uptime, observed.answers).with_turns(observed.served),
            backups=self.backups.seen(observed.at, observed.backups.work, observed.backups.answers),
        )

    def cloud_answered(self, observed: Observed) -> History:
        """Take in the owners of records that a fresh answer of the cloud lists, or lacks."""
        instance, uptime = observed.cloud.instance, observed.at.uptime
        if isinstance(instance, Unknown):
            return self
        known = owners(observed.records)
        absences = self.owners.absences.seen(uptime, instance.id, observed.cloud.peers, known)
        return replace(self, owners=replace(self.owners, absences=absences))

    def recorded(self, action: Action, result: Result, uptime: float) -> History:
        """Record an action's outcome. A subject whose action failed is left alone for the rest of the reconcile."""
        after = self
        if result not in (Result.DONE, Result.CONFLICT):
            after = replace(after, failed=after.failed | {action.subject})
        if isinstance(action, AttachVolume):
            after = replace(after, attachments=_request(after.attachments, action.volume_id, result))
        if isinstance(action, ChangeRecords) and action.batch == REMOVALS:
            removed = after.owners.removed + len(action.records)
            after = replace(after, owners=replace(after.owners, removed=removed))
        # A start that failed is followed by the reconcile's own back-off.
        if isinstance(action, StartUnit) and result is Result.DONE:
            after = replace(after, units=after.units.started(action.unit, uptime))
        if isinstance(action, RestartUnit) and result is Result.DONE:
            after = replace(after, units=after.units.restarted(action.unit, uptime))
        return after

    def next_reconcile(self) -> History:
        """The memory with which the next reconcile begins: failures are forgotten, so that it tries again."""
        return replace(
            self,
            failed=frozenset(),
            attachments=replace(self.attachments, requested=frozenset(), denied=frozenset(), failed=frozenset()),
            owners=replace(self.owners, removed=0),
        )

    def for_another_configuration(self) -> History:
        """The memory that stays when the configuration changes: the starts of units."""
        return History(units=self.units)


def _request(tracking: AttachTracking, volume_id: str, result: Result) -> AttachTracking:
    if result is Result.CONFLICT:
        return tracking
    return tracking.recorded(
        volume_id,
        done=result is Result.DONE,
        uncertain=result is Result.UNCERTAIN,
        denied=result is Result.DENIED,
    )
