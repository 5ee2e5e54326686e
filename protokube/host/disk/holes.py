"""Which parts of a disk hold data, where that can be known without reading it: a loop device's file knows its holes.

A hole reads as zeros by definition (lseek(2), SEEK_DATA), so that a sparse disk can be proven blank to the last byte.
"""

from __future__ import annotations

import errno
import os

from protokube.kernel import calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from protokube.host.disk.rawdisk import RawDisk

_MOST_RANGES = 4096
"""A file in more pieces than this isn't worth the walk: it is read like any disk."""


def data_ranges(raw: RawDisk) -> list[tuple[int, int]] | None:
    """The (start, end) of everything that may be other than zero; None when nothing tells."""
    backing = calls.whole_file_behind(raw.fd)
    return None if backing is None else _of_file(raw.node, backing, raw.size)


def _of_file(node: str, backing: tuple[int, int], size: int) -> list[tuple[int, int]] | None:
    """The same. The file's path in sysfs is another namespace's view: what it leads to must be the kernel's file."""
    try:
        with open(f"/sys/block/{node.removeprefix('/dev/')}/loop/backing_file", "rb") as told:
            path = told.read().rstrip(b"\n")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        # Beyond the end of a file that is too short nothing is a hole: it can't be read.
        if (status.st_dev, status.st_ino) != backing or status.st_size < size:
            return None
        return ranges_of(fd, size)
    except OSError:
        return None
    finally:
        os.close(fd)


def ranges_of(fd: int, size: int, most: int | None = _MOST_RANGES) -> list[tuple[int, int]] | None:
    """The (start, end) of a file's data up to `size`; None when they are more than `most`."""
    found: list[tuple[int, int]] = []
    end = 0
    while end < size and (most is None or len(found) <= most):
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # no data follows
                raise
            return found
        if start >= size:
            return found
        end = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, min(end, size)))
    return found if end >= size else None
