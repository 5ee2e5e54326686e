"""What no tool at hand can make without a kernel module or a whole cluster: written by their published layouts."""

from __future__ import annotations

import hashlib
import random
import struct
from pathlib import Path

from tests.safety.images import KIB, MIB, write

_MD_MAGIC = 0xA92B4EFC
_UUID = bytes(range(16))


def _md_checksum(block: bytes) -> int:
    words: tuple[int, ...] = struct.unpack(f"<{len(block) // 4}I", block)
    total: int = sum(words)
    return (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF


def mbr(image: Path, size: int) -> None:
    """A DOS partition table with one partition, from 1 MiB to 1 MiB before the end."""
    entry = struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", 2048, size // 512 - 4096)
    write(image, 440, struct.pack("<IH", 0x5AFE7E57, 0) + entry + bytes(48) + b"\x55\xaa")


def md_version_1(image: Path, size: int, offset: int) -> None:
    """An MD RAID1 member with metadata 1.x (the kernel's include/uapi/linux/raid/md_p.h)."""
    block = bytearray(256 + 2 * 2)
    struct.pack_into("<4I", block, 0, _MD_MAGIC, 1, 0, 0)
    block[16:32] = _UUID
    block[32:64] = b"node:data".ljust(32, b"\0")
    struct.pack_into("<QIIQII", block, 64, 1700000000, 1, 0, size // 512 - 2048, 0, 2)
    data_offset = 2048 if offset < MIB else 0
    struct.pack_into("<QQQ", block, 128, data_offset, size // 512 - 2048, offset // 512)
    struct.pack_into("<I", block, 220, 2)  # max_dev
    struct.pack_into("<2H", block, 256, 0, 1)
    struct.pack_into("<I", block, 216, 0)
    struct.pack_into("<I", block, 216, _md_checksum(bytes(block)))
    write(image, offset, bytes(block))


def md_version_0(image: Path, size: int) -> None:
    """An MD RAID1 member with metadata 0.90, which stands in the last 64 to 128 KiB."""
    words = [0] * 1024
    words[:7] = [_MD_MAGIC, 0, 90, 0, 0, 0x01234567, 1700000000]
    words[7:13] = [1, size // KIB, 2, 2, 0, 0]
    words[13:16] = [0x89ABCDEF, 0x02468ACE, 0x13579BDF]
    words[32:38] = [1700000000, 1, 2, 2, 0, 0]
    write(image, (size // (64 * KIB) - 1) * 64 * KIB, struct.pack("<1024I", *words))


def zfs(image: Path, size: int) -> None:
    """A pool's member: four labels with their uberblocks, and some blocks of data (OpenZFS's vdev_impl.h)."""
    chance = random.Random("zfs")
    end = size - size % (256 * KIB)
    name_value = b"\x01\x01\0\0" + bytes(11) + b"\x01" + b"\0\0\0\x24\0\0\0\x20\0\0\0\x07version" + bytes(64)
    for start in (0, 256 * KIB, end - 512 * KIB, end - 256 * KIB):
        write(image, start + 16 * KIB, name_value)
        for slot in range(32):
            uberblock = struct.pack("<5Q", 0x00BAB10C, 5000, slot + 4, chance.getrandbits(60), 1700000000)
            write(image, start + 128 * KIB + slot * KIB, uberblock)
    for _ in range(12):
        write(image, 4 * MIB + chance.randrange(size // 2) // 4096 * 4096, chance.randbytes(16 * KIB))


def bluestore(image: Path, size: int) -> None:
    """A Ceph OSD: its label, and data that it allocates from 64 KiB on."""
    chance = random.Random("bluestore")
    label = b"bluestore block device\n6f3c1bd0-3f5e-4b0e-9a55-0a4f3c9d3a11\n" + chance.randbytes(200)
    write(image, 0, label)
    for _ in range(16):
        write(image, 64 * KIB + chance.randrange(size // 2) // 4096 * 4096, chance.randbytes(64 * KIB))


def vmfs(image: Path, size: int) -> None:
    """A VMFS volume's two signatures (libblkid's vmfs.c)."""
    volume = bytearray(512)
    struct.pack_into("<I", volume, 0, 0xC001D00D)
    struct.pack_into("<I", volume, 4, 5)
    volume[130:146] = _UUID
    write(image, MIB, bytes(volume))
    filesystem = bytearray(512)
    struct.pack_into("<I", filesystem, 0, 0x2FABF15E)
    filesystem[9:25] = _UUID
    filesystem[29:33] = b"data"
    write(image, 2 * MIB, bytes(filesystem))


def database(image: Path, size: int) -> None:
    """Somebody's database straight on the disk: pages of 8 KiB with a small header, spread as it grew."""
    chance = random.Random("database")
    for number in range(512):
        page = struct.pack("<QII", number, 1, 0) + hashlib.sha256(str(number).encode()).digest() * 100
        write(image, chance.randrange(size - 8 * KIB) // (8 * KIB) * 8 * KIB if number else 0, page)


def encrypted(image: Path, size: int) -> None:
    """Plain dm-crypt on a disk that was in use for a while: nothing but noise, here its first 24 and last 2 MiB."""
    chance = random.Random("encrypted")
    for start in [*range(0, 24 * MIB, MIB), size - 2 * MIB, size - MIB]:
        write(image, start, chance.randbytes(MIB))
