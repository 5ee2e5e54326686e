"""A disk that writes down every write in order, so that the moment of a power cut can be chosen afterwards.

qemu-storage-daemon's blklogwrites keeps a log in the format of the kernel's dm-log-writes
(Documentation/admin-guide/device-mapper/log-writes.rst): sectors of 512 bytes, first a superblock, then entries of
one sector (sector, count, flags, length of data), each with the data that was written. A flush is an entry without
data.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.disks import until
from tests.safety.images import blank

_SECTOR = 512
_ENTRY = struct.Struct("<QQQQ")
_FLUSH = 1
_DISCARD = 4


@dataclass(frozen=True)
class Write:
    """One write: where on the disk, where its data stands in the log, and where the log went on after it.

    `flushed`: so many writes before it had been flushed when it came.
    """

    offset: int
    length: int
    data: int
    end: int
    flushed: int


@contextmanager
def recorded(export: Path, size: int, log: Path) -> Iterator[None]:
    """Make `export` a blank disk whose writes go to a log; put it behind a loop device to use it."""
    image = blank(log.with_suffix(".img"), size)
    log.touch()
    export.touch()
    nodes: list[dict[str, Any]] = [
        {"driver": "file", "node-name": "disk", "filename": str(image)},
        {"driver": "file", "node-name": "log", "filename": str(log)},
        {"driver": "blklogwrites", "node-name": "top", "file": "disk", "log": "log", "log-sector-size": _SECTOR},
    ]
    fuse = {"type": "fuse", "id": "e", "node-name": "top", "mountpoint": str(export), "writable": True}
    words = [word for node in nodes for word in ("--blockdev", json.dumps(node))]
    daemon = subprocess.Popen(["qemu-storage-daemon", *words, "--export", json.dumps(fuse)])
    try:
        until(lambda: export.stat().st_size, "qemu-storage-daemon is up")
        yield
        loops = ["losetup", "--list", "--noheadings", "--output", "BACK-FILE"]
        until(lambda: str(export) not in subprocess.check_output(loops, text=True), "the loop device is free")
    finally:
        daemon.terminate()
        daemon.wait(timeout=30)
        subprocess.run(["umount", "--lazy", export], capture_output=True, timeout=30)
        image.unlink()


def writes(log: Path) -> list[Write]:
    """The writes of a log, in order."""
    size = log.stat().st_size
    found: list[Write] = []
    flushed = 0
    position = _SECTOR
    with log.open("rb") as file:
        while position + _SECTOR <= size:
            sector, count, flags, _ = _ENTRY.unpack(os.pread(file.fileno(), _ENTRY.size, position))
            data = position + _SECTOR
            position = data + (0 if flags & _DISCARD else count * _SECTOR)
            if flags & _FLUSH:
                flushed = len(found)
            if count and not flags & _DISCARD:
                found.append(Write(sector * _SECTOR, count * _SECTOR, data, position, flushed))
    return found


def replay(log: Path, upto: list[Write], image: Path, size: int) -> None:
    """The disk as it was after these writes."""
    blank(image, size)
    with log.open("rb") as source, image.open("r+b", buffering=0) as target:
        for one in upto:
            data = os.pread(source.fileno(), one.length, one.data)
            os.pwrite(target.fileno(), data, one.offset)
