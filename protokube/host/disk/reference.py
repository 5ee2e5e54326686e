"""The filesystem that a disk is to hold, made by mkfs.ext4 in memory first.

What a format writes is thus known before its first byte, and known again after an interruption: the same size, UUID
and label give the same filesystem to the byte, since the time and the hash seed, which mkfs.ext4 would choose at
random, are given. Only the pages that mkfs.ext4 writes take memory (4 MiB for a disk of 20 GiB).
"""

from __future__ import annotations

import os

from protokube.host.disk import ext4
from protokube.host.disk.holes import ranges_of
from protokube.host.disk.rawdisk import CHUNK
from protokube.host.process import Running, tool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK_FOR_LARGE_SECTORS = "4096"
_SMALLEST_BLOCK = 1024
# Inode tables stay unwritten: the checksummed group descriptors say which inodes were never used, and the mount
# option noinit_itable keeps the kernel from zeroing them later. The journal is zeroed by whoever writes this to a
# disk: an old journal's blocks could be replayed after the first power cut.
OPTIONS = "nodiscard,lazy_itable_init=1,lazy_journal_init=1,hash_seed={uuid}"
ENVIRONMENT = {
    "E2FSPROGS_FAKE_TIME": "1",  # the filesystem's creation
    "SOURCE_DATE_EPOCH": "1",  # the same, for e2fsprogs 1.47.1 and later
    "UNIX_IO_NOZEROOUT": "1",  # zeros that mkfs.ext4 wants written are written, not left as holes
}
_JOURNAL = "stat <8>"


class MkfsError(Exception):
    """The filesystem could not be made; the message is the tool's."""


class Reference:
    """An ext4 filesystem in memory. `size` is the disk's; `sector` its logical sector, in bytes."""

    __slots__ = ("_fd", "journal", "size")

    def __init__(self, size: int, uuid: str, label: str, sector: int) -> None:
        self.size = size
        self._fd = os.memfd_create("reference", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self._fd, size)
            self._make(uuid, label, sector)
            self.journal = self._find_journal()
        except BaseException:  # frees the memory in every case, and raises again
            os.close(self._fd)
            raise

    def close(self) -> None:
        """Give the memory back."""
        os.close(self._fd)

    def __enter__(self) -> Reference:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, offset: int, length: int) -> bytes:
        """Some bytes of the filesystem; what mkfs.ext4 doesn't write is zero."""
        return os.pread(self._fd, length, offset)

    def parts(self) -> Iterator[tuple[int, int]]:
        """The (offset, length) of everything that mkfs.ext4 writes, in pieces of at most 1 MiB, in order."""
        for start, end in ranges_of(self._fd, self.size, most=None) or []:
            for offset in range(start, end, CHUNK):
                yield offset, min(CHUNK, end - offset)

    def _make(self, uuid: str, label: str, sector: int) -> None:
        options = ["-q", "-E", OPTIONS.format(uuid=uuid), "-U", uuid, "-L", label]
        if sector > _SMALLEST_BLOCK:
            options += ["-b", _BLOCK_FOR_LARGE_SECTORS]  # a block can't be smaller than a sector
        command = [tool("mkfs.ext4"), *options, "/proc/self/fd/3"]
        code, _, errors = Running(command, keep=self._fd, environment=ENVIRONMENT).result()
        if code != os.EX_OK:
            how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
            raise MkfsError(f"mkfs.ext4 {how}: {errors.decode(errors='replace').strip()}")

    def _find_journal(self) -> list[tuple[int, int]]:
        """The (offset, length) of the journal's pieces, of which mkfs.ext4 writes the first block alone."""
        superblock = ext4.parse(self.read(ext4.OFFSET, ext4.LENGTH))
        if superblock is not None and not superblock.has_journal:
            return []  # a disk of a few MiB has no room for one
        command = [tool("debugfs"), "-c", "-R", _JOURNAL, "/proc/self/fd/3"]
        code, text, errors = Running(command, keep=self._fd).result()
        listed = text.decode(errors="replace").partition("EXTENTS:")[2]
        pieces = []
        for word in listed.replace(",", " ").split():
            _, _, blocks = word.partition("):")
            first, _, last = blocks.partition("-")
            if "ETB" not in word and first.isdigit():
                pieces.append((int(first), int(last or first)))
        if superblock is None or code != os.EX_OK or not pieces:
            raise MkfsError(f"the journal can't be found in what mkfs.ext4 made: {text!r} {errors!r}")
        block = superblock.block_size
        return [(first * block, (last - first + 1) * block) for first, last in pieces]
