"""Rewriting a small file in place, so that a crash at any byte can be undone by the next start.

Some files must keep their inode (a container that mounts /etc/hosts pins it), so they can't be renamed over.
Before the file is touched, a backup gets the old and the new content, atomically and synced. The backup may stand in
another folder, since the file's own may be read-only (the file is a bind mount then).

A file is torn when it is neither content as a whole, and each of its bytes is the old one, the new one, or a zero
that a power cut left. Then the old content is put back. Any other file was written by another program after the
crash, and stays.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from protokube.errors import explain

_HEAD = re.compile(rb"protokube backup 1: old (\d{1,9}) bytes, new (\d{1,9}) bytes, sha256 ([0-9a-f]{64})\n")
_CHUNK = 1 << 16


def pack(old: bytes, new: bytes) -> bytes:
    """A backup's content: one line that tells its parts, then the old content, then the new one."""
    checksum = _checksum(old + new)
    return f"protokube backup 1: old {len(old)} bytes, new {len(new)} bytes, sha256 {checksum}\n".encode() + old + new


def _checksum(data: bytes) -> str:
    import hashlib  # only where a backup is: the start is to be quick

    return hashlib.sha256(data).hexdigest()


def unpack(data: bytes) -> tuple[bytes, bytes] | None:
    """The old and the new content; None when the backup isn't whole or isn't ours."""
    head = _HEAD.match(data)
    if not head:
        return None
    body, size = data[head.end() :], int(head[1])
    whole = len(body) == size + int(head[2]) and _checksum(body).encode() == head[3]
    return (body[:size], body[size:]) if whole else None


def is_torn(found: bytes, old: bytes, new: bytes) -> bool:
    """Whether a crash between the old and the new content may have left `found`."""
    if found in (old, new) or not min(len(old), len(new)) <= len(found) <= max(len(old), len(new)):
        return False
    return all(
        byte == 0 or old[at : at + 1] == found[at : at + 1] or new[at : at + 1] == found[at : at + 1]
        for at, byte in enumerate(found)
    )


def torn_from(backup: Path, found: bytes) -> bytes | None:
    """The old content, if a backup shows that a file with the content `found` is torn; else None."""
    with explain(f"read {backup}"):
        try:
            parts = unpack(backup.read_bytes())
        except FileNotFoundError:
            return None
    return parts[0] if parts and is_torn(found, *parts) else None


def content(file: int) -> bytes:
    """Everything in an open file."""
    data = bytearray()
    while more := os.pread(file, _CHUNK, len(data)):
        data += more
    return bytes(data)


def restore(backup: Path, file: int) -> None:
    """Give the open file its old content if it is torn, and remove the backup.

    A crash during the repair leaves the file torn and the backup in place.
    """
    if not backup.exists():
        return
    old = torn_from(backup, content(file))
    if old is not None:
        _put(file, old)
    backup.unlink()


def rewrite(backup: Path, file: int, old: bytes, new: bytes) -> bool:
    """Replace `old`, the content of the open file, in place; False when it isn't its content any more."""
    with explain(f"write {backup}"):
        _put_backup(backup, pack(old, new), os.fstat(file).st_mode & 0o777)
    same = content(file) == old
    if same:
        _put(file, new)
    backup.unlink()
    return same


def _put_backup(backup: Path, data: bytes, mode: int) -> None:
    backup.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = backup.with_name(f".{backup.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as copy:
        copy.write(data)
        copy.flush()
        os.fsync(copy.fileno())
    fresh.replace(backup)
    folder = os.open(backup.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _put(file: int, data: bytes) -> None:
    """Make `data` the content of an open file, on disk when this returns."""
    written = 0
    while written < len(data):
        written += os.pwrite(file, data[written:], written)
    os.ftruncate(file, len(data))
    os.fsync(file)
