"""Taking hold of a volume's disk: find it, lock it, open it exclusively.

The BSD lock (flock) on the whole disk's device node is the convention of systemd and udev: who works on a disk holds
it. It lasts as long as any process has the locked descriptor open, a tool that we started included.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

from protokube.host.disk import sysblock
from protokube.host.disk.rawdisk import RawDisk
from protokube.host.disk.sysblock import BlockDisk, Missing, UncertainError
from protokube.kernel import mountinfo
from protokube.kernel.locks import flock_holder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from protokube.host.disk.loops import Loops
    from protokube.host.disk.sysblock import Identity

_LOCK_STEP = 0.02


class BusyError(Exception):
    """Another process works on the disk; the message says who, as far as the kernel tells."""


class InUseError(Exception):
    """The disk is in use in a way that rules it out for us; the message is the evidence."""


def find(identity: Identity, size: int, loops: Loops) -> BlockDisk | Missing:
    """The volume's disk, Missing when the machine has no such disk (yet); UncertainError when in doubt."""
    disks = sysblock.disks()
    backing = identity[1]
    if backing is not None:
        loops.ask(disks)
    disk = sysblock.locate(identity, size, disks, loops.file_of)
    if isinstance(disk, Missing) and backing is not None:
        must_answer(disks, loops)
    return disk


def must_answer(disks: list[BlockDisk], loops: Loops) -> None:
    """Raise UncertainError when a loop device that doesn't answer might be the one that wasn't found."""
    for disk in disks:
        pid = loops.silent.get((disk.name, disk.sequence))
        if pid is not None:
            raise UncertainError(f"{disk.node} does not answer: process {pid} waits for the file behind it")


def mounted(disk: BlockDisk, lines: list[mountinfo.Line]) -> bool:
    """Whether the disk or a partition of it is mounted in this mount namespace."""
    numbers = {disk.number, *(number for _, number in disk.partitions())}
    return any(line.number in numbers for line in lines)


def refuse_used(disk: BlockDisk) -> None:
    """Raise InUseError for a disk that is more than a lone whole disk: partitions, holders, swap.

    The kernel keeps a loop device's partitions when its file is exchanged, so that they say nothing about the next
    one: there the content decides, and our exclusive open fails while any partition is in use.
    """
    partitions = disk.partitions()
    if partitions and not disk.is_loop:
        named = ", ".join(name for name, _ in partitions)
        raise InUseError(f"it has partitions: {named}; if they are no longer needed: partx --delete {disk.node}")
    if holders := disk.holders():
        raise InUseError(f"it is held by {', '.join(holders)}")
    if os.makedev(*disk.number) in sysblock.swaps():
        raise InUseError("it is in use as swap")


def lock(disk: BlockDisk, patience: float) -> int:
    """Open and lock the disk's node; the descriptor holds the lock. BusyError after `patience` seconds."""
    fd = os.open(disk.node, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    locked = False
    try:
        status = os.fstat(fd)
        if not stat.S_ISBLK(status.st_mode) or status.st_rdev != os.makedev(*disk.number):
            raise UncertainError(f"{disk.node} is not the block device {disk.number[0]}:{disk.number[1]}")
        end = time.monotonic() + patience
        while not locked:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked = True
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise BusyError(_holder(status)) from None
                time.sleep(_LOCK_STEP)
    finally:
        if not locked:
            os.close(fd)
    return fd


def open_exclusively(disk: BlockDisk, *, write: bool = False) -> RawDisk:
    """Open the disk exclusively; InUseError when the kernel or another program has claimed it."""
    try:
        return RawDisk(disk.node, write=write)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise InUseError(
            "another program holds it exclusively, or it is mounted in another mount namespace"
        ) from error


def _holder(status: os.stat_result) -> str:
    """The name of the process that holds the lock on a file."""
    pid = flock_holder(status)
    return "another program" if pid is None else _name(pid)


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return f"{file.read().strip()} (pid {pid})"
    except OSError:
        return f"a program that process {pid} started"
