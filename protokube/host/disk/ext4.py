"""ext4's superblock, read by ourselves (layout: the kernel's Documentation/filesystems/ext4/super.rst)."""

from __future__ import annotations

import struct

OFFSET = 1024
LENGTH = 1024
_MAGIC = 0xEF53
_CLEAN = 0x1
_ERRORS = 0x2
_HAS_JOURNAL = 0x4
_NEEDS_RECOVERY = 0x4
_EXTENTS = 0x40
_64BIT = 0x80


class Superblock:
    """The fields that we judge by. `raw` is the whole superblock, `size` the filesystem's size in bytes.

    `recover` says that its journal holds changes which are not in place yet.
    """

    __slots__ = (
        "block_size",
        "clean",
        "errors",
        "has_journal",
        "label",
        "mount_count",
        "mount_time",
        "raw",
        "recover",
        "size",
        "uuid",
    )

    def __init__(self, raw: bytes) -> None:
        blocks, log_block = struct.unpack_from("<I", raw, 4)[0], struct.unpack_from("<I", raw, 24)[0]
        compatible, incompatible = struct.unpack_from("<II", raw, 92)
        if incompatible & _64BIT:
            blocks |= struct.unpack_from("<I", raw, 336)[0] << 32
        (low,) = struct.unpack_from("<I", raw, 44)
        state = struct.unpack_from("<H", raw, 58)[0]
        self.raw = raw
        self.block_size = 1024 << log_block
        self.size = blocks * self.block_size
        self.mount_time = low | raw[0x275] << 32  # s_mtime and s_mtime_hi
        self.mount_count = struct.unpack_from("<H", raw, 52)[0]
        self.uuid = _uuid_text(raw[104:120])
        self.label = raw[120:136].split(b"\0")[0].decode(errors="backslashreplace")
        self.clean = bool(state & _CLEAN)
        self.errors = bool(state & _ERRORS)
        self.has_journal = bool(compatible & _HAS_JOURNAL)
        self.recover = bool(incompatible & _NEEDS_RECOVERY)

    @property
    def used(self) -> bool:
        """Whether it was ever mounted. e2fsck sets the count of mounts back, but never their time."""
        return bool(self.mount_count or self.mount_time or self.recover)


def parse(raw: bytes) -> Superblock | None:
    """The superblock, None when there is none: no magic, or sizes that can't be."""
    if len(raw) != LENGTH or struct.unpack_from("<H", raw, 56)[0] != _MAGIC:
        return None
    return Superblock(raw) if struct.unpack_from("<I", raw, 24)[0] <= 6 else None


def _uuid_text(raw: bytes) -> str:
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uuid_bytes(text: str) -> bytes:
    """A UUID as the superblock holds it."""
    return bytes.fromhex(text.replace("-", ""))
