"""Where a disk is read to prove that it is blank, beyond its ends: where filesystems, volume managers and partition
tables keep what outlives a wiped head.

A signature at the start is the first thing to be wiped, and blkid sees the disk as blank then. These places are each
format's second copies, and its first structures far from the start, as its own mkfs lays them out.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
PAGE = 4096
HEAD = 8 * MIB
TAIL = 2 * MIB
"""How much of each end of the disk is read whole: most formats have written something behind their first MiB."""


class Place:
    """A range of bytes of the disk, and what would stand there."""

    __slots__ = ("length", "offset", "what")

    def __init__(self, offset: int, length: int, what: str) -> None:
        self.offset = offset
        self.length = length
        self.what = what


def places(size: int) -> list[Place]:
    """Every place to read on a disk of `size` bytes: both ends whole, then the others, cut to the disk and pages."""
    found = [Place(start, MIB, "first 8 MiB") for start in range(0, HEAD, MIB)]
    found += [Place(start, MIB, "last 2 MiB") for start in (size - TAIL, size - MIB)]
    spares = sorted(set(_ext4_spares(size)))
    found += [Place(offset, PAGE + KIB, "spare ext4 superblock") for offset in spares]
    # The same in a partition, or behind MD's superblock; and ReiserFS's bitmaps, which lie where a group begins.
    found += [Place(offset + MIB, PAGE + KIB, "spare ext4 superblock of a partition") for offset in spares]
    found += _fixed()
    found += _fractions(size)
    found += _computed(size)
    return [_cut(place, size) for place in found if place.offset < size]


def _cut(place: Place, size: int) -> Place:
    start = max(0, place.offset)
    if place.length < MIB:
        start -= start % PAGE
    return Place(start, min(size, place.offset + place.length) - start, place.what)


def _ext4_spares(size: int) -> Iterator[int]:
    """Where ext2/3/4 keep spare superblocks: in group 1 and the powers of 3, 5 and 7 (sparse_super), or in group 1
    and the last one (sparse_super2). A group has 8 blocks' worth of blocks, fewer by `-g`, or of clusters (bigalloc,
    of 16 blocks unless asked otherwise)."""
    sizes = {(block, 8 * block * block) for block in (KIB, 2 * KIB, 4 * KIB, 64 * KIB)}
    sizes |= {(4 * KIB, 8192 * 4 * KIB), (KIB, 16 * 8 * KIB * KIB), (4 * KIB, 16 * 8 * 16 * MIB)}
    for block, group in sizes:
        first = KIB if block == KIB else 0  # with 1 KiB blocks, group 0 begins at block 1
        groups = {1, (size - first - 1) // group}
        groups |= {base**power for base in (3, 5, 7) for power in range(1, 40)}
        yield from (first + number * group for number in groups if 0 < first + number * group < size)


def _fixed() -> list[Place]:
    """Places that don't depend on the disk's size."""
    found = [Place(offset, PAGE, "btrfs superblock") for offset in (64 * MIB, 256 * GIB)]
    # mkfs.btrfs puts its first chunks at 1, 5, 13, 21 and 29 MiB.
    found += [Place(offset, 64 * KIB, "btrfs chunk") for offset in (5 * MIB, 13 * MIB, 21 * MIB, 29 * MIB, 37 * MIB)]
    found += [Place(78 * MIB, 256 * KIB, "APFS volume")]
    found += [Place(4092 * 8 * PAGE * number, PAGE, "Reiser4 bitmap") for number in range(1, 5)]
    found += [Place(4032 * 8 * PAGE << step, PAGE, "OCFS2 cluster group") for step in range(9)]
    found += [Place(number * GIB, 2 * PAGE, "spare OCFS2 superblock") for number in (1, 4, 16, 64, 256, 1024)]
    # Partitions, FAT tables, F2FS checkpoints, MD's and LVM's data and most extents begin at whole MiB.
    found += [Place(number * MIB, PAGE, "start of a MiB") for number in range(8, 258)]
    found += [Place(MIB << step, PAGE, "power of two") for step in range(7, 45)]
    return found


def _fractions(size: int) -> list[Place]:
    """XFS divides a disk into 2 to 8 allocation groups of equal size, rounded to blocks or a RAID's stripes, and into
    groups of 1 TiB when it is very large. NTFS keeps its mirror in the middle, ext4 its journal."""
    fractions = sorted({(part * size // of) for of in range(2, 9) for part in range(1, of)})
    found = [Place(offset - 64 * KIB, 128 * KIB, "XFS allocation group") for offset in fractions]
    # In a partition that begins at 1 MiB, the groups begin up to 1 MiB later.
    usual = [size // 4, size // 3, size // 2, size * 2 // 3, size * 3 // 4]
    found += [Place(offset + 64 * KIB, MIB, "XFS allocation group of a partition") for offset in usual]
    return found + [Place(number << 40, PAGE, "XFS allocation group") for number in range(1, 16)]


def _computed(size: int) -> list[Place]:
    """Second FATs, and the first directory of Minix's and ext4's filesystems, behind tables whose length follows the
    disk's."""
    # mke2fs.conf: an inode of 256 bytes for every 4 KiB of a small filesystem, 16 KiB of another (whose first tables
    # are those of 2 GiB), and 64 KiB of one with such blocks. Up to 4 MiB of room for group descriptors come first.
    tables = {min(size, 512 * MIB) // 16, min(size, 2 * GIB) // 64, size // 256}
    steps = (0, MIB, 4 * MIB, 5 * MIB)
    found = [Place(start + step, MIB, "ext4 root directory") for start in sorted(tables) for step in steps]
    for cluster in (1, 2, 4, 8, 16, 32, 64):  # sectors
        sectors = size // 512
        fat = -(-(sectors - 32 + 2 * cluster) // (128 * cluster + 2)) * 512  # FAT32: 4 bytes a cluster
        found += [Place(start + fat - 16 * KIB, 32 * KIB, "second FAT") for start in (16 * KIB, MIB + 16 * KIB)]
        found.append(Place(16 * KIB + 2 * fat - 16 * KIB, 32 * KIB, "FAT's root directory"))
    blocks = size // KIB
    start = blocks // 8 + blocks // 24 + blocks // 3 * 64  # zone map, inode map, inodes of 64 bytes
    return [*found, Place(start - 32 * KIB, 128 * KIB, "Minix root directory")]
