"""Takes one backup, in the order that makes an incomplete one never count.

etcd counts its keys → the snapshot, its hash checked → its bytes hold these keys → the store has it → what the store
gives back is the same, and is restored on trial → the metadata, which makes it count.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from protokube.backups.catalogue import Catalogue, hash_of
from protokube.backups.database import Contents
from protokube.backups.proof import count, prove
from protokube.backups.tools import find_tools
from protokube.core.backup.model import BackupRecord
from protokube.core.etcd.running import Keys
from protokube.core.model import MIB
from protokube.errors import ProviderError, explain
from protokube.etcdclient.client import EtcdClient

TRIES = 3
"""How often a snapshot is taken, where etcd has compacted what was counted before it."""

_SPARE = 256 * MIB
"""Free space that must be left: the trial's restore sets 64 MB aside for a log, and the node needs some as well."""
_COPIES = 4
"""Copies of the snapshot that stand side by side at most: itself, what came back, sealed, and restored."""


class Source(Struct, frozen=True):
    """What a backup is taken of: the own member's client port, and the member's name."""

    client: EtcdClient
    member: str


class AtWorkError(ProviderError):
    """Another process takes a backup of this etcd cluster on this machine."""


@contextmanager
def working(folder: Path) -> Iterator[None]:
    """Work in a directory alone, and leave nothing there. What a killed process has left is removed first.

    Raises AtWorkError when another process works there.
    """
    with explain(f"use {folder}"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AtWorkError(f"{folder}: another process takes a backup now; wait for its end") from error
        _empty(folder)
        try:
            yield
        finally:
            _empty(folder)
    finally:
        os.close(held)


def is_working(folder: Path) -> bool:
    """Whether a process works in a directory now."""
    try:
        held = os.open(folder / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(held)
    return False


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name == ".lock":
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def take(source: Source, catalogue: Catalogue, folder: Path, reason: str, tools: str | None = None) -> BackupRecord:
    """Take a backup, and return its metadata; all work is done in `folder`, which only root can read.

    Raises ProviderError when any step fails: nothing counts then that wasn't there before.
    """
    with working(folder), explain(f"take a backup in {folder}"):
        status = source.client.status()
        _check_space(folder, status.size)
        path = folder / "snapshot.db"
        counted, contents = _snapshot(source.client, path)
        sha256 = hash_of(path)
        name = catalogue.put_data(int(time.time()), contents.revision, path)
        size = path.stat().st_size
        path.unlink()
        back = folder / "back.db"
        catalogue.fetch(name, back, sha256)
        proof = prove(back, count(back), find_tools(tools), folder, status.version)
        record = BackupRecord(
            at=name.at,
            revision=name.revision,
            size=size,
            sha256=sha256,
            keys=counted.count,
            counted_at=counted.revision,
            etcd_version=status.version,
            member=source.member,
            proven=proof.proven,
            proof=proof.told,
            reason=reason,
        )
        catalogue.put_record(record)
        return record


def _snapshot(client: EtcdClient, path: Path) -> tuple[Keys, Contents]:
    """Write a snapshot, and compare it with what etcd's quorum counted right before it."""
    for _ in range(TRIES):
        path.unlink(missing_ok=True)
        counted = client.keys()
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
            client.snapshot(out)
        contents = count(path, counted.revision)
        if contents.compacted > counted.revision:
            continue  # what lived then can't be told any more
        if contents.revision < counted.revision:
            raise ProviderError(
                f"the snapshot is stale: its last revision is {contents.revision} (expected {counted.revision}, "
                "which a quorum had before it); see whether this member catches up: protokube etcd status"
            )
        if contents.keys != counted.count:
            raise ProviderError(
                f"the snapshot has {contents.keys} keys at revision {counted.revision} (expected {counted.count}, "
                "which a quorum has): this member's data differ from the others'; replace it"
            )
        return counted, contents
    raise ProviderError(f"etcd has compacted what was counted, {TRIES} times; the next backup tries again")


def _check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    needed = _COPIES * size + _SPARE
    if free < needed:
        raise ProviderError(
            f"{folder} has {free // MIB} MiB free (expected {needed // MIB}: etcd's database has {size // MIB}); "
            "free space there"
        )
