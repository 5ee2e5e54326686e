"""The backups of one etcd cluster in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from msgspec import MsgspecError, Struct
from msgspec.json import decode, encode

from protokube.core.backup.model import BackupRecord, KeptBackups
from protokube.core.backup.names import (
    BackupName,
    Listing,
    by_trust,
    data_object,
    metadata_object,
    older_object,
    parse_name,
    prefix,
    read_listing,
)
from protokube.core.model import MIB
from protokube.errors import DamagedRecordError, StoreError
from protokube.ports import BulkStore

_SECONDS = 5
"""How many names are tried."""


class Newest(Struct, frozen=True):
    """All backups, the newest that can be read, and what is wrong with newer ones."""

    listing: Listing
    record: BackupRecord | None
    unreadable: tuple[str, ...]


class Older(Struct, frozen=True):
    """The backups of an older cluster, by name: a wrong clock would make another cluster's older than they are."""

    names: tuple[str, ...]


class Catalogue:
    """The backups of the etcd cluster `etcd` of `cluster`. Every call raises StoreError when the store gives no
    usable answer."""

    def __init__(self, store: BulkStore, cluster: str, etcd: str) -> None:
        self._store, self._cluster, self._etcd = store, cluster, etcd

    def listing(self) -> Listing:
        """The names of all backups."""
        return read_listing(self._store.list(prefix(self._cluster, self._etcd)))

    def newest(self, now: float, beside: Collection[BackupName] = ()) -> Newest:
        """The newest backup whose metadata can be read, at `now` (seconds since the epoch), `beside` these."""
        listing, unreadable = self.listing(), list[str]()
        for name in reversed(by_trust((one for one in listing.complete if one not in beside), now)):
            try:
                record = self.record(name)
            except DamagedRecordError as error:
                unreadable.append(str(error))
                continue
            if record is not None:
                return Newest(listing, record, tuple(unreadable))
        return Newest(listing, None, tuple(unreadable))

    def record(self, name: BackupName) -> BackupRecord | None:
        """A backup's metadata; None when it has none. Raises DamagedRecordError when it is damaged."""
        found = self._store.get(metadata_object(self._cluster, self._etcd, name))
        if found is None:
            return None
        try:
            record = decode(found.content, type=BackupRecord)
        except MsgspecError as error:
            raise DamagedRecordError(f"{self._at(name)}.json: not a backup's metadata: {error}") from error
        if record.name != name:
            raise DamagedRecordError(
                f"{self._at(name)}.json: the metadata of {record.name}; it was moved, or is damaged"
            )
        return record

    def kept(self, now: float) -> KeptBackups:
        """The complete backups of this cluster, without those of an older one of the same name. One from the future
        of `now` (seconds since the epoch) is the newest only where there is no other."""
        older = self.older()
        names = by_trust((name for name in self.listing().complete if name not in older), now)
        return KeptBackups(len(names), names[-1] if names else None)

    def older(self) -> frozenset[BackupName]:
        """The backups of an older cluster of the same name. Raises DamagedRecordError when that can't be read."""
        return self._older()[0]

    def give_up(self, listing: Listing) -> None:
        """From now on these backups, and no others, are of an older cluster. They are kept."""
        names = tuple(str(one) for one in sorted((*listing.complete, *listing.incomplete)))
        name, content = older_object(self._cluster, self._etcd), encode(Older(names))
        _, version = self._older()
        stands = (
            self._store.put_if_absent(name, content)
            if version is None
            else self._store.compare_and_swap(name, content, version)
        )
        if not stands:
            raise StoreError(f"{name}: another node has written it right now; look again")

    def _older(self) -> tuple[frozenset[BackupName], str | None]:
        """The backups of an older cluster, and the version of the object that says so."""
        name = older_object(self._cluster, self._etcd)
        found = self._store.get(name)
        if found is None:
            return frozenset(), None
        try:
            told = decode(found.content, type=Older).names
        except MsgspecError as error:
            raise DamagedRecordError(f"{name}: not a list of backups: {error}") from error
        names = {one: parse_name(one) for one in told}
        if wrong := [one for one, parsed in names.items() if parsed is None]:
            raise DamagedRecordError(f"{name}: {wrong[0]!r} is no backup's name; put the object back from a copy")
        return frozenset(parsed for parsed in names.values() if parsed is not None), found.version

    def put_data(self, at: int, revision: int, path: Path) -> BackupName:
        """Put a backup's snapshot, and return its name: another one of that second is none to be replaced."""
        for later in range(_SECONDS):
            name = BackupName(at + later, revision)
            if self._store.put_file_if_absent(data_object(self._cluster, self._etcd, name), path):
                return name
        raise StoreError(f"{self._at(BackupName(at, revision))}.db: other backups have this name, and the next ones")

    def put_record(self, record: BackupRecord) -> None:
        """Put a backup's metadata, which makes it count. What another call has put stays."""
        self._store.put_if_absent(metadata_object(self._cluster, self._etcd, record.name), encode(record))

    def fetch(self, name: BackupName, path: Path, sha256: str) -> None:
        """Write a backup's snapshot to a new file. Raises StoreError unless it is the one with this hash."""
        if not self._store.get_file(data_object(self._cluster, self._etcd, name), path):
            raise StoreError(f"{self._at(name)}.db: the store has no such object")
        found = hash_of(path)
        if found != sha256:
            raise StoreError(f"{self._at(name)}.db: its sha256 is {found} (expected {sha256}); it is damaged")

    def delete_record(self, name: BackupName) -> None:
        """Delete a backup's metadata: from then on it doesn't count, and no restore of it begins."""
        self._store.delete(metadata_object(self._cluster, self._etcd, name))

    def delete_data(self, name: BackupName) -> None:
        """Delete a backup's snapshot, once its metadata is gone."""
        self._store.delete(data_object(self._cluster, self._etcd, name))

    def _at(self, name: BackupName) -> str:
        return f"{prefix(self._cluster, self._etcd)}{name}"


def hash_of(path: Path) -> str:
    """The sha256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(MIB):
            found.update(part)
    return found.hexdigest()


def why_not_a_snapshot(path: Path) -> str | None:
    """Why a file is no snapshot of etcd's; None when it ends with the sha256 of all before (etcd's
    snapshot/v3_snapshot.go)."""
    size = path.stat().st_size
    if size % 512 != 32:
        return f"it has {size} bytes (expected a multiple of 512, and 32 more)"
    found = hashlib.sha256()
    with path.open("rb") as file:
        left = size - 32
        while left and (part := file.read(min(MIB, left))):
            found.update(part)
            left -= len(part)
        return None if file.read() == found.digest() else "it does not end with its own sha256"
