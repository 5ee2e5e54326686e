"""Take back a first start of etcd that was cut off before its first entry.

etcd makes its log in `wal.tmp`, renames that to `wal`, and only then writes the entries that make it a member of its
cluster (Create, in etcd's wal.go). From a log without entries it never serves: it takes itself for a member without
peers (https://github.com/etcd-io/etcd/issues/10688 ends there as well). Such a log holds no vote and no write, so
nobody was promised anything. Renamed back to `wal.tmp` it is what etcd itself removes at its next start, which then
goes on as the first one.
"""

# Child processes import this, and pathlib takes them longer than a whole probe:
# ruff: noqa: PTH208

from __future__ import annotations

import os
import stat

from protokube.host.disk.holes import ranges_of

_LOG = "0000000000000000-0000000000000000.wal"
_DATABASE = "db"
_SPARE = ".tmp"
"""How a file ends that etcd sets aside for its next log."""
_PAGE = 4096
_CHUNK = 1 << 20
_METADATA, _CHECKSUM, _SNAPSHOT = 1, 4, 5
"""Kinds of record (etcd's wal.go); entries and states are 2 and 3."""
_HEAD = [_CHECKSUM, _METADATA, _SNAPSHOT]
_FIELD_KIND = 0x08
"""The tag of a record's first field, its kind (etcd's record.proto)."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def take_back(volume: str, data_dir: str) -> bool:
    """Rename a log without entries, and say whether there was one. `volume` is where the volume is mounted.

    No link on the volume is followed. Raises OSError when the volume can't be read or written.
    """
    member = _open(volume, f"{data_dir}/member")
    if member is None:
        return False
    try:
        if set(os.listdir(member)) != {"snap", "wal"} or not _holds_an_empty_log(member):
            return False
        os.rename("wal", "wal.tmp", src_dir_fd=member, dst_dir_fd=member)
        os.fsync(member)
        return True
    finally:
        os.close(member)


def _open(volume: str, path: str) -> int | None:
    """Open a directory component by component; None where there is none."""
    fd = os.open(volume, _DIRECTORY)
    for part in path.split("/"):
        below = _open_in(fd, part)
        os.close(fd)
        if below is None:
            return None
        fd = below
    return fd


def _holds_an_empty_log(member: int) -> bool:
    """Whether a member has a log without entries, and no snapshot of an earlier one."""
    snapshots, wal = _open_in(member, "snap"), _open_in(member, "wal")
    try:
        return (
            snapshots is not None
            and wal is not None
            and set(os.listdir(snapshots)) <= {_DATABASE}
            and all(name == _LOG or name.endswith(_SPARE) for name in os.listdir(wal))
            and _is_empty_log(wal)
        )
    finally:
        for fd in (snapshots, wal):
            if fd is not None:
                os.close(fd)


def _open_in(directory: int, name: str) -> int | None:
    """Open a directory in another; None where there is none."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_empty_log(wal: int) -> bool:
    try:
        if not stat.S_ISREG(os.stat(_LOG, dir_fd=wal, follow_symlinks=False).st_mode):
            return False
    except FileNotFoundError:
        return False
    log = os.open(_LOG, _FILE, dir_fd=wal)
    try:
        return _is_empty(log)
    finally:
        os.close(log)


def _is_empty(log: int) -> bool:
    """Whether a log holds its head and nothing else but zeros."""
    end = _end_of_head(os.pread(log, _PAGE, 0))
    if end is None:
        return False
    for start, stop in ranges_of(log, os.fstat(log).st_size, most=None) or ():
        for offset in range(max(start, end), stop, _CHUNK):
            piece = os.pread(log, min(_CHUNK, stop - offset), offset)
            if piece.count(0) != len(piece):
                return False
    return True


def _end_of_head(page: bytes) -> int | None:
    """Where the head of a log ends; None when other records stand there.

    Before each record stands its length, little-endian: 56 bits, with the padding in the highest byte (etcd's
    encoder.go).
    """
    kinds: list[int] = []
    position = 0
    while len(kinds) < len(_HEAD):
        length = int.from_bytes(page[position : position + 8], "little")
        record = position + 8
        if page[record : record + 1] != bytes([_FIELD_KIND]):
            return None
        kinds += page[record + 1 : record + 2]
        padding = length >> 56 & 7 if length >> 63 else 0
        position = record + (length & (1 << 56) - 1) + padding
    return position if kinds == _HEAD else None
