"""Other people's disks: every format that Debian has a tool for, and some that are written by hand.

Each is made once for each of its sizes, in a sparse file; the cases take copies. The tools that are too heavy to be
installed are unpacked into a directory (.ci/unpack-packages), which `Tools` knows.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.safety import handmade
from tests.safety.images import GIB, KIB, MIB, blank, loop, overlay, run

SIZES = (320 * MIB, GIB, 20 * GIB)
_KEY = b"0123456789abcdef"


class Tools:
    """The programs that make disks: the machine's, and those that were unpacked."""

    def __init__(self, unpacked: Path) -> None:
        root = unpacked / "root"
        folders = [str(root / folder) for folder in ("sbin", "usr/sbin", "bin", "usr/bin")]
        libraries = [str(root / folder / "x86_64-linux-gnu") for folder in ("lib", "usr/lib")]
        self._environment = {
            "PATH": ":".join([*folders, "/usr/sbin", "/usr/bin", "/sbin", "/bin"]),
            "LD_LIBRARY_PATH": ":".join([*libraries, str(root / "lib"), str(root / "usr/lib")]),
            "MKE2FS_DEVICE_SECTSIZE": "512",
        }

    def __call__(self, *command: str | Path, given: bytes | None = None) -> None:
        """Run one of them."""
        run(*command, given=given, environment=self._environment)


Maker = Callable[[Tools, Path, int], object]


@dataclass(frozen=True)
class Format:
    """A kind of disk. `make` turns a blank image of some size into it. `installed`: the machine's own tools do."""

    name: str
    make: Maker
    sizes: Sequence[int] = SIZES
    installed: bool = False


def _by(*command: str, given: bytes | None = None) -> Maker:
    return lambda tools, image, _size: tools(*command, image, given=given)


def _ext4(*options: str) -> Maker:
    return _by("mkfs.ext4", "-q", "-F", *options)


def _luks(kind: str) -> Maker:
    options = ["--pbkdf", "pbkdf2"] if kind == "luks2" else []
    words = ["cryptsetup", "luksFormat", "-q", "--type", kind, *options, "--pbkdf-force-iterations", "1000"]
    return lambda tools, image, _size: tools(*words, image, "-", given=_KEY)


def _on_device(*command: str) -> Maker:
    """For tools that want a block device."""

    def make(tools: Tools, image: Path, _size: int) -> None:
        with loop(image) as device:
            tools(*command, device)

    return make


def fill(folder: Path) -> None:
    """Files as a machine in use holds them: many small ones, some large, and one that is written again."""
    chance = random.Random("files")
    for number in range(120):
        (folder / f"d{number % 7}").mkdir(exist_ok=True)
        (folder / f"d{number % 7}/f{number}").write_bytes(chance.randbytes(chance.choice([300, 5000, 70_000])))
    (folder / "large").write_bytes(chance.randbytes(9 * MIB))


def _used(maker: Maker) -> Maker:
    """A filesystem that was mounted and written to."""

    def make(tools: Tools, image: Path, size: int) -> None:
        maker(tools, image, size)
        at = image.with_suffix(".mnt")
        at.mkdir(exist_ok=True)
        with loop(image) as device:
            run("mount", device, at)
            try:
                fill(at)
            finally:
                run("umount", at)
        at.rmdir()

    return make


def _archive(*command: str) -> Maker:
    """An image of a folder, written to the disk's start."""

    def make(tools: Tools, image: Path, size: int) -> None:
        folder = image.with_suffix(".files")
        made = image.with_suffix(".made")
        folder.mkdir()
        fill(folder)
        made.unlink(missing_ok=True)
        tools(*[{"IN": str(folder), "OUT": str(made)}.get(word, word) for word in command])
        overlay(made, image)
        run("rm", "-r", folder, made)

    return make


def _partition(table: str, maker: Maker) -> Maker:
    """A partition from 1 MiB on, to 1 MiB before the end, with something in it."""

    def make(tools: Tools, image: Path, size: int) -> None:
        inner = image.with_suffix(".part")
        blank(inner, size - 2 * MIB)
        maker(tools, inner, size - 2 * MIB)
        overlay(inner, image, MIB)
        inner.unlink()
        _table(table)(tools, image, size)

    return make


def _table(kind: str) -> Maker:
    if kind == "mbr":  # sgdisk takes two seconds for one
        return lambda _tools, image, size: handmade.mbr(image, size)
    return lambda tools, image, size: tools("sgdisk", "-o", "-n", f"1:{MIB // 512}:{(size - 2 * MIB) // 512}", image)


def _lvm(tools: Tools, image: Path, _size: int) -> None:
    with loop(image) as device:
        settings = f'devices{{filter=["a|^{device}$|","r|.*|"] use_devicesfile=0}} global{{locking_type=0}}'
        tools("pvcreate", "-ff", "-y", "--metadatacopies", "2", "--config", settings, device)


_XFS = _by("mkfs.xfs", "-q")
_EXT4 = _ext4()
_BTRFS = _by("mkfs.btrfs", "-q")
_UNPACKED: dict[str, Maker] = {
    "f2fs": _by("mkfs.f2fs", "-q"),
    "jfs": _by("mkfs.jfs", "-q"),
    "reiserfs": _by("mkreiserfs", "-q", "-ff"),
    "reiser4": _by("mkfs.reiser4", "-y", "-f"),
    "nilfs2": _by("mkfs.nilfs2", "-q"),
    "ocfs2": _by("mkfs.ocfs2", "-q", "-T", "mail", "--fs-features=local", "-N", "1"),
    "fat32": _by("mkfs.vfat", "-F", "32"),
    "exfat": _by("mkfs.exfat"),
    "ntfs": _by("mkfs.ntfs", "-Q", "-F", "-q"),
    "udf": _by("mkudffs"),
    "bcache": _by("make-bcache", "-B"),
    "bcache-cache": _by("make-bcache", "-C"),
    "hfs": _by("hformat"),
    "gfs2": _by("mkfs.gfs2", "-q", "-O", "-p", "lock_nolock"),
    "apfs": _by("mkapfs"),
    "drbd": lambda tools, image, _size: tools("drbdmeta", "--force", "0", "v08", image, "internal", "create-md"),
}
_SMALL = (64 * MIB, 320 * MIB)


def _md(offset_of: Callable[[int], int]) -> Maker:
    return lambda _tools, image, size: handmade.md_version_1(image, size, offset_of(size))


def _md_with(maker: Maker) -> Maker:
    """MD 1.2 with a filesystem behind it."""

    def make(tools: Tools, image: Path, size: int) -> None:
        inner = image.with_suffix(".part")
        blank(inner, size - MIB)
        maker(tools, inner, size - MIB)
        overlay(inner, image, MIB)
        inner.unlink()
        handmade.md_version_1(image, size, 4 * KIB)

    return make


FORMATS: tuple[Format, ...] = (
    Format("ext4", _EXT4, (8 * MIB, *SIZES), installed=True),
    Format("ext4-1k", _ext4("-b", "1024"), (64 * MIB, GIB), installed=True),
    Format("ext4-2k", _ext4("-b", "2048"), installed=True),
    Format("ext4-4k", _ext4("-b", "4096"), (64 * MIB, GIB), installed=True),
    Format("ext4-64k", _ext4("-b", "65536"), installed=True),
    Format("ext4-bigalloc", _ext4("-O", "bigalloc"), installed=True),
    Format("ext4-g8192", _ext4("-g", "8192"), installed=True),
    Format("ext4-sparse-super2", _ext4("-O", "sparse_super2"), installed=True),
    Format("ext4-no-flex", _ext4("-O", "^flex_bg"), installed=True),
    Format("ext4-no-journal", _ext4("-O", "^has_journal"), installed=True),
    Format("ext4-lazy", _ext4("-E", "lazy_itable_init=1,lazy_journal_init=1"), installed=True),
    Format("ext4-used", _used(_EXT4), installed=True),
    Format("ext2", _by("mkfs.ext2", "-q", "-F"), installed=True),
    Format("ext3", _by("mkfs.ext3", "-q", "-F"), installed=True),
    Format("xfs", _XFS, installed=True),
    Format("xfs-3-groups", _by("mkfs.xfs", "-q", "-d", "agcount=3"), installed=True),
    Format("xfs-v4", _by("mkfs.xfs", "-q", "-m", "crc=0"), installed=True),
    Format("xfs-used", _used(_XFS), installed=True),
    Format("btrfs", _BTRFS, installed=True),
    Format("btrfs-mixed", _by("mkfs.btrfs", "-q", "--mixed"), (320 * MIB, GIB), installed=True),
    Format("btrfs-used", _used(_BTRFS), installed=True),
    Format("swap", _by("mkswap"), installed=True),
    Format("gpt", _table("gpt"), installed=True),
    Format("mbr", _table("mbr"), installed=True),
    Format("lvm", _lvm, installed=True),
    Format("luks1", _luks("luks1"), installed=True),
    Format("luks2", _luks("luks2"), installed=True),
    Format("minix", _by("mkfs.minix", "-3"), _SMALL, installed=True),
    Format("minix1", _by("mkfs.minix", "-1"), _SMALL, installed=True),
    Format("bfs", _by("mkfs.bfs"), installed=True),
    *(Format(name, maker) for name, maker in _UNPACKED.items()),
    Format("fat16", _by("mkfs.vfat", "-F", "16"), _SMALL),
    Format("squashfs", _archive("mksquashfs", "IN", "OUT", "-quiet", "-no-progress")),
    Format("erofs", _archive("mkfs.erofs", "OUT", "IN")),
    Format("iso9660", _archive("genisoimage", "-quiet", "-R", "-o", "OUT", "IN")),
    Format("romfs", _archive("genromfs", "-d", "IN", "-f", "OUT")),
    Format("cramfs", _archive("mkfs.cramfs", "IN", "OUT"), installed=True),
    Format("tar", _archive("tar", "-cf", "OUT", "IN"), installed=True),
    Format("md-0.90", lambda _tools, image, size: handmade.md_version_0(image, size), installed=True),
    Format("md-1.0", _md(lambda size: (size // 512 - 16) // 8 * 8 * 512), installed=True),
    Format("md-1.1", _md(lambda _: 0), installed=True),
    Format("md-1.2", _md(lambda _: 4 * KIB), installed=True),
    Format("md-1.2-ext4", _md_with(_EXT4), installed=True),
    Format("md-1.2-xfs", _md_with(_XFS), (GIB, 20 * GIB), installed=True),
    Format("zfs", lambda _tools, image, size: handmade.zfs(image, size), installed=True),
    Format("bluestore", lambda _tools, image, size: handmade.bluestore(image, size), installed=True),
    Format("vmfs", lambda _tools, image, size: handmade.vmfs(image, size), installed=True),
    Format("database", lambda _tools, image, size: handmade.database(image, size), installed=True),
    Format("encrypted", lambda _tools, image, size: handmade.encrypted(image, size), installed=True),
    *(
        Format(f"{table}-{name}", _partition(table, maker), (GIB, 20 * GIB), installed=True)
        for table in ("gpt", "mbr")
        for name, maker in {"ext4": _used(_EXT4), "xfs": _XFS, "btrfs": _BTRFS}.items()
    ),
    *(
        Format(f"mbr-{name}", _partition("mbr", _UNPACKED[name]), (GIB, 20 * GIB))
        for name in ("f2fs", "jfs", "reiserfs", "nilfs2", "fat32", "ntfs", "udf", "bcache")
    ),
    Format("mbr-zfs", _partition("mbr", lambda _t, image, size: handmade.zfs(image, size)), (GIB,), installed=True),
    Format("mbr-md-1.2", _partition("mbr", _md(lambda _: 4 * KIB)), (GIB, 20 * GIB), installed=True),
)


def label(size: int) -> str:
    """A size for people."""
    return f"{size // GIB} GiB" if size % GIB == 0 else f"{size // MIB} MiB"


class Corpus:
    """The disks, as images in a folder."""

    def __init__(self, folder: Path, unpacked: Path) -> None:
        self._folder = folder
        self._tools = Tools(unpacked)

    def path(self, name: str, size: int) -> Path:
        """Where the image of a format stands."""
        return self._folder / f"{name}-{size}.img"

    def make(self, one: Format, size: int) -> Path:
        """Make it if it isn't there; a half-made one never stands under the final name."""
        image = self.path(one.name, size)
        if not image.exists():
            beside = blank(self._folder / f"{one.name}-{size}.{os.getpid()}.new", size)
            one.make(self._tools, beside, size)
            run("fallocate", "--dig-holes", beside)
            beside.rename(image)
        return image


def seed(*words: object) -> int:
    """A number that depends on words alone, so that a case is the same every time."""
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:8], "big")


def of_names(names: Iterable[str]) -> list[Format]:
    """Some of the formats."""
    wanted = set(names)
    return [one for one in FORMATS if one.name in wanted]
