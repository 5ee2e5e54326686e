"""The filesystem that a growth is to leave, made by resize2fs in memory first.

What a growth writes is thus known before its first byte. Memory holds the filesystem's metadata alone (e2image), with
holes for the data of files. resize2fs touches no file's data as long as the room that mkfs reserved for group
descriptors is enough; `unfit` says where that isn't known.
"""

from __future__ import annotations

import os
import struct

from protokube.host.disk.holes import ranges_of
from protokube.host.disk.rawdisk import CHUNK, PAGE
from protokube.host.process import Running, tool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from protokube.host.disk.ext4 import Superblock
    from protokube.host.disk.rawdisk import RawDisk

_RESIZE_INODE = 0x10
_SPARSE_SUPER2 = 0x200
_META_BG = 0x10
_64BIT = 0x80
_MMP = 0x100
_CHECKSUMS = 0x10 | 0x400  # of group descriptors: they tell which inode tables were never written
_BIGALLOC = 0x200
_SMALL_DESCRIPTOR = 32
_JOURNAL_COPIED = 1
_ENVIRONMENT = {"UNIX_IO_NOZEROOUT": "1"}  # zeros that are wanted are written, not left as holes
_IMAGE = "/proc/self/fd/3"


class GrowError(Exception):
    """The larger filesystem could not be made in memory; the message is the tool's."""


def unfit(superblock: Superblock, size: int) -> str | None:
    """Why the growth to `size` bytes can't be made in memory first; None when it can."""
    raw = superblock.raw
    compatible, incompatible, read_only = struct.unpack_from("<III", raw, 92)
    if not compatible & _RESIZE_INODE or compatible & _SPARSE_SUPER2 or incompatible & (_META_BG | _MMP):
        return "its group descriptors have no room reserved in the usual way"
    if not read_only & _CHECKSUMS or read_only & _BIGALLOC:
        return "its group descriptors have no checksums, or its blocks are clusters"
    (group,) = struct.unpack_from("<I", raw, 32)
    (reserved,) = struct.unpack_from("<H", raw, 0xCE)
    descriptor = struct.unpack_from("<H", raw, 0xFE)[0] if incompatible & _64BIT else _SMALL_DESCRIPTOR

    def tables(total: int) -> int:
        groups = -(-(total // superblock.block_size) // group)
        return int(-(-groups * descriptor // superblock.block_size))

    if tables(size) > tables(superblock.size) + reserved:
        return f"it grows beyond the {reserved} blocks that are reserved for group descriptors"
    needed, available = _memory(raw, superblock.block_size, size // superblock.block_size // group + 1), _available()
    if needed > available // 2:
        return f"its metadata takes {needed} bytes, and {available} are available"
    return None


def _memory(raw: bytes, block: int, groups: int) -> int:
    """How many bytes of memory the metadata may take: used inodes, two bitmaps a group, the journal."""
    inodes, free = struct.unpack_from("<I", raw, 0)[0], struct.unpack_from("<I", raw, 16)[0]
    (inode_size,) = struct.unpack_from("<H", raw, 88)
    high, low = struct.unpack_from("<II", raw, 0x148) if raw[0xFD] == _JOURNAL_COPIED else (0, 0)
    return int((inodes - free) * inode_size + 4 * block * groups + (high << 32 | low))


def _available() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable:"))


class Grown:
    """The filesystem of an exclusively opened disk, grown to the disk's size, in memory."""

    __slots__ = ("_fd", "_raw")

    def __init__(self, raw: RawDisk) -> None:
        self._raw = raw
        self._fd = os.memfd_create("grown", os.MFD_CLOEXEC)
        try:
            self._make()
        except BaseException:  # frees the memory in every case, and raises again
            os.close(self._fd)
            raise

    def close(self) -> None:
        """Give the memory back."""
        os.close(self._fd)

    def __enter__(self) -> Grown:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def changes(self) -> Iterator[tuple[int, bytes]]:
        """The (offset, content) of each page that the growth changes, in order; shorter at the disk's end."""
        for offset, length in self._pieces():
            old, new = self._raw.read(offset, length), os.pread(self._fd, length, offset)
            for start in range(0, length, PAGE):
                if old[start : start + PAGE] != new[start : start + PAGE]:
                    yield offset + start, new[start : start + PAGE]

    def _make(self) -> None:
        self._run("e2image", "-r", self._raw.node, _IMAGE)
        os.ftruncate(self._fd, self._raw.size)
        # The first run shows which pages are written. A page may hold blocks of files beside one of metadata: it is
        # taken from the disk whole, as the disk has it, before the run that counts.
        self._run("resize2fs", _IMAGE)
        for offset, length in self._pieces():
            os.pwrite(self._fd, self._raw.read(offset, length), offset)
        before = list(self._pieces())
        self._run("resize2fs", _IMAGE)
        if list(self._pieces()) != before:
            raise GrowError("resize2fs wrote to other places when it was run again")
        self._run("e2fsck", "-f", "-n", _IMAGE)

    def _pieces(self) -> Iterator[tuple[int, int]]:
        for start, end in ranges_of(self._fd, self._raw.size, most=None) or []:
            for offset in range(start, end, CHUNK):
                yield offset, min(CHUNK, end - offset)

    def _run(self, name: str, *words: str) -> None:
        code, text, errors = Running([tool(name), *words], keep=self._fd, environment=_ENVIRONMENT).result()
        if code != os.EX_OK:
            how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
            said = (text + errors).decode(errors="replace").strip()
            raise GrowError(f"{name} of the larger filesystem in memory {how}: {said}")
