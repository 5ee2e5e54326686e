"""Where a disk is read to prove that it is blank: both ends and every place of a filesystem's spare copies.

The ends and the spare copies are what tells a blank disk from one whose first signature was wiped: blkid sees the
second one as blank.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

KIB = 1 << 10
MIB = 1 << 20
_PAGE = 4096
_EXT_MAGIC = b"\x53\xef"
EXT4_SPARE = "spare ext4 superblock"


class Place:
    """A range of bytes of the disk, and what would stand there."""

    __slots__ = ("length", "offset", "what")

    def __init__(self, offset: int, length: int, what: str) -> None:
        self.offset = offset
        self.length = length
        self.what = what


def places(size: int) -> list[Place]:
    """Every place to read on a disk of `size` bytes, in order, cut to the disk and aligned to 4 KiB at its start."""
    found = [Place(0, MIB, "first MiB"), Place(max(0, size - MIB), MIB, "last MiB")]
    found += [Place(offset, _PAGE + KIB, EXT4_SPARE) for offset in _ext4_spares(size)]
    found += [Place(offset, _PAGE, "btrfs superblock") for offset in (64 * KIB, 64 * MIB, 256 << 30)]
    found += [Place(16 * KIB << step, _PAGE, "second LUKS2 header") for step in range(9)]
    # An allocation group begins near a quarter of the disk, rounded to blocks or to a RAID's stripes; very large
    # filesystems have groups of 1 TiB.
    found += [Place(size // 4 * n - 64 * KIB, 128 * KIB, "XFS allocation group") for n in (1, 2, 3)]
    found += [Place(n << 40, _PAGE, "XFS allocation group") for n in range(1, 16)]
    return [_cut(place, size) for place in found if place.offset < size]


def _cut(place: Place, size: int) -> Place:
    start = max(0, place.offset)
    if start < size - MIB:
        start -= start % _PAGE
    return Place(start, min(size, place.offset + place.length) - start, place.what)


def _ext4_spares(size: int) -> Iterator[int]:
    """Where ext2/3/4 keep spare superblocks: in group 1 and the powers of 3, 5 and 7 (sparse_super)."""
    for block in (1 * KIB, 2 * KIB, 4 * KIB):
        group_bytes = 8 * block * block
        first = KIB if block == KIB else 0  # with 1 KiB blocks, group 0 begins at block 1
        groups = {1} | {base**power for base in (3, 5, 7) for power in range(1, 40)}
        yield from (first + group * group_bytes for group in sorted(groups) if first + group * group_bytes < size)


def foreign_signature(place: Place, data: bytes, uuid: bytes) -> str | None:
    """What stands at a place that mkfs.ext4 of the filesystem `uuid` would not have left there.

    For disks on which a format was interrupted: they aren't zero, but nobody else's signature may be there.
    """
    if place.what == EXT4_SPARE:
        for start in (0, KIB):
            block = data[start : start + KIB]
            if block[56:58] == _EXT_MAGIC and block[104:120] != uuid and block[104:120].strip(b"\0"):
                return "a spare superblock of another ext4 filesystem"
    if data[64:72] == b"_BHRfS_M":
        return "a btrfs superblock"
    if data[:6] in (b"SKUL\xba\xbe", b"LUKS\xba\xbe"):
        return "a LUKS header"
    for start in range(0, len(data), 512):
        if data[start : start + 4] in (b"XFSB", b"XAGF"):
            return "an XFS superblock"
        if data[start : start + 8] == b"EFI PART":
            return "a GPT header"
        if data[start : start + 4] == struct.pack("<I", 0xA92B4EFC):
            return "an MD superblock"
    return None
