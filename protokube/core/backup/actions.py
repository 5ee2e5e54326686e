"""The actions on backups: one is started, and not awaited; old ones are deleted."""

from __future__ import annotations

from typing import ClassVar, Protocol

from msgspec.structs import replace

from protokube.core.action import ActionValue, Facet
from protokube.core.backup.model import BackedUp, BackupFacts, BackupWork
from protokube.core.backup.names import BackupName


class BackupWriter(Protocol):
    """Takes and deletes backups."""

    def start_backup(self, action: TakeBackup) -> None:
        """Start the taking of a backup in a process of its own, which goes on by itself."""

    def remove_backups(self, action: RemoveBackups) -> None:
        """Delete backups from the store, each one's metadata first."""


class TakeBackup(ActionValue, frozen=True, tag="take-backup"):
    """Start a backup of an etcd cluster. Its end is seen in a later reconcile."""

    port: ClassVar[str] = "backups"
    facts: ClassVar[str] = "backups"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.BACKUPS})
    cluster: str
    member: BackedUp
    reason: str

    @property
    def subject(self) -> str:
        """The etcd cluster's backups."""
        return f"backup of {self.member.etcd}"

    def describe(self) -> str:
        """One line for people."""
        return f"back up etcd cluster {self.member.etcd}"

    def predict(self, facts: BackupFacts, now: float) -> BackupFacts:
        """It is being taken."""
        return replace(facts, work={**(facts.work or {}), self.member.etcd: BackupWork(working=True)})

    def execute(self, port: BackupWriter) -> None:
        """Start it."""
        port.start_backup(self)


class RemoveBackups(ActionValue, frozen=True, tag="remove-backups"):
    """Delete old backups of an etcd cluster from the store."""

    port: ClassVar[str] = "backups"
    facts: ClassVar[str] = "backups"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.BACKUPS})
    cluster: str
    etcd: str
    names: tuple[BackupName, ...]

    @property
    def subject(self) -> str:
        """The etcd cluster's old backups."""
        return f"old backups of {self.etcd}"

    def describe(self) -> str:
        """One line for people."""
        few = ", ".join(str(name) for name in self.names[:3])
        more = f" and {len(self.names) - 3} more" if len(self.names) > 3 else ""
        return f"delete the backups {few}{more} of etcd cluster {self.etcd}"

    def predict(self, facts: BackupFacts, now: float) -> BackupFacts:
        """They are gone, and what was read of the store doesn't count any more."""
        return replace(facts, answers={etcd: one for etcd, one in facts.answers.items() if etcd != self.etcd})

    def execute(self, port: BackupWriter) -> None:
        """Delete them."""
        port.remove_backups(self)
