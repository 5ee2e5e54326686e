"""Disks that somebody else uses: what other programs write on a LoopDisk, and how blkid names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.lab.disks import LoopDisk, run


def _luks(disk: LoopDisk, scratch: Path) -> None:
    key = scratch / "key"
    key.write_bytes(b"0123456789abcdef")
    options = ["--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", str(key)]
    run("cryptsetup", "luksFormat", "-q", *options, disk.device)


def _ambivalent(disk: LoopDisk, scratch: Path) -> None:
    run("mkfs.xfs", "-q", disk.device)
    disk.flush()
    start = disk.read(0, 512)
    run("mkfs.ext4", "-q", "-F", disk.device)
    disk.write(0, start)


FOREIGN: dict[str, tuple[Callable[[LoopDisk, Path], object], str]] = {
    "xfs": (lambda disk, _: run("mkfs.xfs", "-q", disk.device), "TYPE=xfs"),
    "btrfs": (lambda disk, _: run("mkfs.btrfs", "-q", disk.device), "TYPE=btrfs"),
    "ext2": (lambda disk, _: run("mkfs.ext2", "-q", disk.device), "TYPE=ext2"),
    "ext3": (lambda disk, _: run("mkfs.ext3", "-q", disk.device), "TYPE=ext3"),
    "swap": (lambda disk, _: run("mkswap", "-q", disk.device), "TYPE=swap"),
    "gpt": (lambda disk, _: run("sgdisk", "-o", "-n", "1:0:0", disk.device), "PTTYPE=gpt"),
    "lvm": (lambda disk, _: run("pvcreate", "-ff", "-y", disk.device), "TYPE=LVM2_member"),
    "luks": (_luks, "TYPE=crypto_LUKS"),
    "two filesystems": (_ambivalent, "(ambivalent)"),
}
"""Kind → what makes it (given a scratch directory) and the evidence that a refusal must name."""
