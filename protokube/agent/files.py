"""Files of the agent's own: written beside and renamed, so that a reader sees the old or the new one."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(
    path: Path, content: bytes, *, durable: bool = True, mode: int = 0o600, owner: tuple[int, int] | None = None
) -> None:
    """Replace a file. `durable`: it is on the disk when this returns. `owner`: user and group. Raises OSError."""
    new = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        if owner is not None:
            os.fchown(file.fileno(), *owner)
        if mode != 0o600:
            os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    new.rename(path)
    if durable:
        sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove a file, so that no power cut brings it back. Raises OSError."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def append(opened: int, data: bytes, size: int) -> None:
    """Write all of `data` at the end of a file of `size` bytes, and bring it to the disk.

    A write may be short, as on a disk that gets full: the rest follows, or the file is as before. Raises OSError.
    """
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(opened, data[done:], size + done)
        os.fsync(opened)
    except OSError:
        os.ftruncate(opened, size)
        raise


def sweep(directory: Path) -> None:
    """Remove what a writer that was killed has left beside its files. Raises OSError."""
    for path in directory.glob(".*.new"):
        path.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Bring a directory's entries to the disk."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
