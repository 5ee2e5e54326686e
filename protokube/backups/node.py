"""The backups of a node: what is known of them, and the process that takes one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from protokube.backups.catalogue import Catalogue
from protokube.backups.removal import remove
from protokube.backups.state import uptime
from protokube.backups.take import is_working
from protokube.backups.wishes import Wishes
from protokube.backups.worker import Job, begin, own_client, state_file, work_folder
from protokube.core.backup.actions import RemoveBackups, TakeBackup
from protokube.core.backup.model import BackedUp, BackupAnswers, BackupWork, KeptBackups
from protokube.core.backup.names import BackupName
from protokube.core.model import Unknown
from protokube.errors import ProviderError, StoreError, explain
from protokube.ports import BulkStore
from protokube.store.place import StorePlace
from protokube.together import start

ASK_LIMIT = 3.0
"""Seconds within which the own member says whether it leads."""


class NodeBackups:
    """The backups below `root`, in the store at `place`; implements `ports.Backups`.

    `wake` is called with a reason when a backup that was started here has ended.
    """

    def __init__(self, root: str, place: StorePlace, tools: str | None, wake: Callable[[str], None]) -> None:
        self._root, self._place, self._tools, self._wake = root, place, tools, wake
        self._store: BulkStore | None = None
        self._running: set[str] = set()
        self._lock = threading.Lock()

    def work(self, etcds: Iterable[str]) -> Mapping[str, BackupWork | Unknown]:
        """See ports.BackupReader."""
        return {etcd: self._work(etcd) for etcd in etcds}

    def answers(self, cluster: str, member: BackedUp) -> BackupAnswers:
        """See ports.BackupReader."""
        leads: bool | Unknown
        try:
            leads = own_client(self._root, member, ASK_LIMIT).status().leads
        except ProviderError as error:
            leads = Unknown(str(error))
        catalogue = Catalogue(self._opened(), cluster, member.etcd)
        older = older_backups(catalogue)
        found = catalogue.newest(time.time(), () if isinstance(older, Unknown) else older)
        restoring = restored_backup(Wishes(self._opened(), cluster, member.etcd))
        return BackupAnswers(found.listing, found.record, leads, found.unreadable, restoring, older)

    def kept(self, cluster: str, etcd: str) -> KeptBackups:
        """See ports.BackupReader."""
        return Catalogue(self._opened(), cluster, etcd).kept(time.time())

    def start_backup(self, action: TakeBackup) -> None:
        """See core/backup/actions.py."""
        etcd = action.member.etcd
        job = Job(self._root, self._place, action.cluster, action.member, action.reason, self._tools)
        with explain(f"start the backup of {etcd}"):
            ended = begin(job)
        with self._lock:
            self._running.add(etcd)
        start(f"backup of {etcd}", partial(self._follow, etcd, ended))

    def remove_backups(self, action: RemoveBackups) -> None:
        """See core/backup/actions.py."""
        catalogue = Catalogue(self._opened(), action.cluster, action.etcd)
        remove(catalogue, Wishes(self._opened(), action.cluster, action.etcd), action.names)

    def _follow(self, etcd: str, ended: Callable[[], int]) -> None:
        code = ended()
        try:
            if code != 0:
                reason = f"the process that took the backup ended with {code}; its error is in the log"
                state_file(self._root, etcd).failed(reason)
        finally:
            with self._lock:
                self._running.discard(etcd)
            self._wake(f"the backup of {etcd} has ended")

    def _work(self, etcd: str) -> BackupWork | Unknown:
        try:
            with explain(f"look at {work_folder(self._root, etcd)}"):
                busy = etcd in self._running or is_working(work_folder(self._root, etcd))
            state = state_file(self._root, etcd).read()
        except ProviderError as error:
            return Unknown(str(error))
        since = max(0.0, uptime() - state.failed_at) if state.failure else 0.0
        return BackupWork(busy, state.last, state.failure, since)

    def _opened(self) -> BulkStore:
        if self._store is None:
            self._store = self._place.open()
        return self._store


def restored_backup(wishes: Wishes) -> BackupName | Unknown | None:
    """The backup that a restore under way brings back; None when there is none, Unknown when that can't be read."""
    try:
        wish = wishes.under_way()
    except StoreError as error:
        return Unknown(str(error))
    return wish.backup.name if wish is not None else None


def older_backups(catalogue: Catalogue) -> frozenset[BackupName] | Unknown:
    """The backups of an older cluster of the same name; Unknown when they can't be read."""
    try:
        return catalogue.older()
    except StoreError as error:
        return Unknown(str(error))
