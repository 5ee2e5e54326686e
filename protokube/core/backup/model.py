"""Backups as they are taken, found and wanted."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from protokube.core.backup.names import BackupName, Listing
from protokube.core.model import Unknown
from protokube.core.steps import Findings

STATE_DIR = "/run/protokube/backups"
"""Where the outcomes of backups are remembered, without the root prefix. The daemon watches it."""

RESTORE_MARK = "k8s.io/restore.json"
"""On a volume: its member takes part in a restore, and doesn't run. Relative to the volume's root."""


class BackupRecord(Struct, frozen=True):
    """A backup's metadata, as the store has it. Its object is written last: a backup without it doesn't count.

    `size` (bytes) and `sha256` are the snapshot's, its own trailing hash included. `keys` lived at `counted_at`, as
    etcd itself said before the snapshot; `revision` is the last one in it. `proven`: it was restored on trial, and
    had these keys; `proof` tells how, or why not. `member` took it for `reason` from an etcd of `etcd_version`.
    """

    at: int
    revision: int
    size: int
    sha256: str
    keys: int
    counted_at: int
    etcd_version: str
    member: str
    proven: bool
    proof: str
    reason: str

    @property
    def name(self) -> BackupName:
        """The name of its objects."""
        return BackupName(self.at, self.revision)


class BackupSettings(Struct, frozen=True):
    """The operator's settings. `every`: seconds between two backups; None takes none by itself. The newest `keep`
    are kept, and the newest of each of `keep_daily` days. `tools`: a directory in which etcdutl or etcdctl is looked
    for first."""

    every: float | None = None
    keep: int = 96
    keep_daily: int = 14
    tools: str | None = None


class BackupWork(Struct, frozen=True):
    """The work on an etcd cluster's backups on this machine. `working`: one is being taken now. `last` is the last
    that it has taken since it booted. `failure`: why the one after that failed, `failed_for` seconds ago."""

    working: bool = False
    last: BackupRecord | None = None
    failure: str = ""
    failed_for: float = 0.0


class BackupAnswers(Struct, frozen=True):
    """What the store and the own member answer. `newest` is the metadata of the newest complete backup that can be
    read, `unreadable` what is wrong with newer ones. `leads`: the own member is the leader. `restoring`: the backup
    that a restore under way brings back; `older`: those of an older cluster of the same name. Either is Unknown where
    it can't be read."""

    listing: Listing
    newest: BackupRecord | None
    leads: bool | Unknown
    unreadable: tuple[str, ...] = ()
    restoring: BackupName | Unknown | None = None
    older: frozenset[BackupName] | Unknown = frozenset()


class KeptBackups(Struct, frozen=True):
    """The backups that the store has of an etcd cluster, as evidence that it ran: how many, and the newest.

    Those count that the operator hasn't said to be of an older cluster (`protokube etcd new`).
    """

    count: int = 0
    newest: BackupName | None = None


class BackupFacts(Struct, frozen=True):
    """The facts, by etcd cluster. `answers` has those that were asked in this reconcile."""

    work: Mapping[str, BackupWork | Unknown] | None = None
    answers: Mapping[str, BackupAnswers | Unknown] = {}


class BackedUp(Struct, frozen=True):
    """A member of this machine whose etcd cluster `etcd` is to be backed up. `port` is its client port, `tls` whether
    that speaks TLS."""

    etcd: str
    member: str
    port: int
    tls: bool


class DueBackup(Struct, frozen=True):
    """A backup to take now, and why."""

    member: BackedUp
    reason: str


class Removal(Struct, frozen=True):
    """Backups of an etcd cluster to delete."""

    etcd: str
    names: tuple[BackupName, ...]


class BackupAssessment(Struct, frozen=True):
    """The judgement. `members` are those that are backed up; `asks`: those about which the store and etcd are asked;
    `due` are to be taken, `removals` to be deleted now."""

    cluster: str = ""
    members: tuple[BackedUp, ...] = ()
    asks: tuple[BackedUp, ...] = ()
    due: tuple[DueBackup, ...] = ()
    removals: tuple[Removal, ...] = ()
    findings: Findings = field(default_factory=Findings)
