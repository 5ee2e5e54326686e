"""Take back a first start of etcd that was cut off before its first entry.

etcd makes its log in `wal.tmp`, renames that to `wal`, and only then writes the entries that make it a member of its
cluster (Create, in etcd's wal.go). From a log without entries it never serves: it takes itself for a member without
peers (https://github.com/etcd-io/etcd/issues/10688 ends there as well). Such a log holds no vote and no write, so
nobody was promised anything. Renamed back to `wal.tmp` it is what etcd itself removes at its next start, which then
goes on as the first one.

etcd holds an open file description lock on its log as long as it runs (lock_linux.go). Who has that lock instead
knows that no etcd runs from the log, and that none can begin to.
"""

# Child processes import this, and pathlib takes them longer than a whole probe:
# ruff: noqa: PTH115, PTH116, PTH208

from __future__ import annotations

import fcntl
import os
import stat
import struct

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
_F_OFD_GETLK, _F_OFD_SETLK, _F_UNLCK = 36, 37, 2
"""linux/fcntl.h; Python 3.11 doesn't name the first two."""
_FLOCK = struct.Struct("hhqqi4x")
"""struct flock on 64-bit machines: type, whence, start, length, pid."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def held(volume: str, data_dir: str) -> bool | None:
    """Whether a process has the lock of a log without entries; None where there is no such log.

    Nothing is locked for it, since an etcd that starts would stumble over that. Raises OSError.
    """
    with _Member(volume, data_dir) as member:
        log = member.empty_log(os.O_RDONLY)
        if log is None:
            return None
        try:
            return _lock(log, _F_OFD_GETLK) != _F_UNLCK
        finally:
            os.close(log)


def take_back(volume: str, data_dir: str) -> bool:
    """Rename a log without entries, and say whether that was done. `volume` is where the volume is mounted.

    Nothing is done while a process holds the log. No link on the volume is followed. Raises OSError when the volume
    can't be read or written.
    """
    with _Member(volume, data_dir) as member:
        log = member.empty_log(os.O_RDWR)
        if log is None:
            return False
        try:
            _lock(log, _F_OFD_SETLK)
            if not _is_empty(log):
                return False
            os.rename("wal", "wal.tmp", src_dir_fd=member.fd, dst_dir_fd=member.fd)
            if _is_open_elsewhere(log):  # opened before the rename, and not locked yet
                os.rename("wal.tmp", "wal", src_dir_fd=member.fd, dst_dir_fd=member.fd)
                return False
            os.fsync(member.fd)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(log)


def _lock(log: int, command: int) -> int:
    """Take a whole file's lock, or ask for it; the kind of lock that is in the way. Raises BlockingIOError."""
    answer = fcntl.fcntl(log, command, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    return int(_FLOCK.unpack(answer)[0])


def _is_open_elsewhere(log: int) -> bool:
    """Whether another process has a file open."""
    wanted, me = os.fstat(log), str(os.getpid())
    return any(pid.isdigit() and pid != me and _has_open(f"/proc/{pid}/fd", wanted) for pid in os.listdir("/proc"))


def _has_open(folder: str, wanted: os.stat_result) -> bool:
    try:
        for name in os.listdir(folder):
            # By its name first: a look at a file whose disk hangs would hang as well.
            if os.readlink(f"{folder}/{name}").endswith(f"/{_LOG}"):
                found = os.stat(f"{folder}/{name}")
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return True
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False  # it has ended, or is none that opens a volume's files
    return False


class _Member:
    """The member's directory, open; `fd` is -1 where there is none."""

    def __init__(self, volume: str, data_dir: str) -> None:
        self._place = volume, f"{data_dir}/member"
        self.fd = -1

    def __enter__(self) -> _Member:
        found = _open(*self._place)
        self.fd = -1 if found is None else found
        return self

    def __exit__(self, *_: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def empty_log(self, mode: int) -> int | None:
        """A descriptor of its log, when that has no entry and there is no snapshot of an earlier one."""
        if self.fd < 0 or set(os.listdir(self.fd)) != {"snap", "wal"}:
            return None
        snapshots, wal = _open_in(self.fd, "snap"), _open_in(self.fd, "wal")
        try:
            if snapshots is None or wal is None or not set(os.listdir(snapshots)) <= {_DATABASE}:
                return None
            if not all(name == _LOG or name.endswith(_SPARE) for name in os.listdir(wal)):
                return None
            return _empty(wal, mode)
        finally:
            for fd in (snapshots, wal):
                if fd is not None:
                    os.close(fd)


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


def _open_in(directory: int, name: str) -> int | None:
    """Open a directory in another; None where there is none."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _empty(wal: int, mode: int) -> int | None:
    """A descriptor of the log in its directory, when it has no entry."""
    try:
        if not stat.S_ISREG(os.stat(_LOG, dir_fd=wal, follow_symlinks=False).st_mode):
            return None
        log = os.open(_LOG, mode | _FILE, dir_fd=wal)
    except FileNotFoundError:
        return None
    if not _is_empty(log):
        os.close(log)
        return None
    return log


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
