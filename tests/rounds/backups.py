"""Backups in the world: the store is the world's, and a backup that was started ends when the test says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.json import encode

from protokube.backups.catalogue import Catalogue
from protokube.backups.node import older_backups, restored_backup
from protokube.backups.removal import remove
from protokube.backups.wishes import Wishes
from protokube.core.backup.actions import RemoveBackups, TakeBackup
from protokube.core.backup.model import BackedUp, BackupAnswers, BackupRecord, BackupWork, KeptBackups
from protokube.core.backup.names import data_object, metadata_object
from protokube.core.model import Unknown
from protokube.errors import ProviderError
from tests.rounds.machine import Port


class Backups(Port):
    """A node's backups. What was started is on the node, and outlives the process."""

    def work(self, etcds: Iterable[str]) -> Mapping[str, BackupWork | Unknown]:
        with self._process.reading("backup-work"):
            return {etcd: self._node.backup_work.get(etcd, BackupWork()) for etcd in etcds}

    def kept(self, cluster: str, etcd: str) -> KeptBackups:
        with self._process.reading("kept-backups"):
            return Catalogue(self._world.store, cluster, etcd).kept(self._world.clock())

    def answers(self, cluster: str, member: BackedUp) -> BackupAnswers:
        with self._process.reading("backup-answers"):
            catalogue = Catalogue(self._world.store, cluster, member.etcd)
            leads = self._world.leaders.get(member.etcd) == self._node.name
            restoring = restored_backup(Wishes(self._world.store, cluster, member.etcd))
            older = older_backups(catalogue)
            found = catalogue.newest(self._world.clock(), () if isinstance(older, Unknown) else older)
            return BackupAnswers(found.listing, found.record, leads, found.unreadable, restoring, older)

    def start_backup(self, action: TakeBackup) -> None:
        with self._process.effect("start-backup"):
            self._node.backup_work[action.member.etcd] = BackupWork(working=True)
            self._node.backup_jobs.append(action)

    def remove_backups(self, action: RemoveBackups) -> None:
        with self._process.effect("remove-backups"):
            catalogue = Catalogue(self._world.store, action.cluster, action.etcd)
            remove(catalogue, Wishes(self._world.store, action.cluster, action.etcd), action.names)

    def end(self, *, revision: int = 1, proven: bool = True, failure: str = "") -> BackupRecord | None:
        """Let the oldest backup that was started on the node come to its end."""
        action = self._node.backup_jobs.pop(0)
        etcd = action.member.etcd
        if failure:
            self._node.backup_work[etcd] = BackupWork(failure=failure)
            return None
        at = int(self._world.clock())
        record = BackupRecord(
            at, revision, 512, "0" * 64, 1, revision, "3.5.30", action.member.member, proven, "as said", action.reason
        )
        store, cluster = self._world.store, action.cluster
        try:
            store.put_if_absent(data_object(cluster, etcd, record.name), b"snapshot")
            store.put_if_absent(metadata_object(cluster, etcd, record.name), encode(record))
        except ProviderError as error:
            self._node.backup_work[etcd] = BackupWork(failure=str(error))
            return None
        self._node.backup_work[etcd] = BackupWork(last=record)
        return record
