"""The few kernel calls on block devices and files that Python has no word for. Numbers are from linux/fs.h,
linux/loop.h and linux/mount.h."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

_BLKGETSIZE64 = 0x80081272
_BLKFLSBUF = 0x1261
_BLKSSZGET = 0x1268
_BLKZEROOUT = 0x127F
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_INFO64_SIZE = 232
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_IMMUTABLE_FL = 0x10

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOATIME = 0x400
MS_BIND = 0x1000
_MNT_DETACH = 0x2
_UMOUNT_NOFOLLOW = 0x8


def device_size(fd: int) -> int:
    """A block device's size in bytes."""
    return int(struct.unpack("Q", fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)))[0])


def sector_size(fd: int) -> int:
    """The smallest number of bytes that a block device reads or writes at once: its logical sector."""
    return int(struct.unpack("i", fcntl.ioctl(fd, _BLKSSZGET, bytes(4)))[0])


def zero_out(fd: int, offset: int, length: int) -> None:
    """Make a range of a block device read as zeros, by the device's own means where it has some. Whole sectors."""
    fcntl.ioctl(fd, _BLKZEROOUT, struct.pack("QQ", offset, length))


def drop_cache(fd: int) -> None:
    """Write a block device's dirty pages and forget the clean ones, so that the next read asks the disk."""
    fcntl.ioctl(fd, _BLKFLSBUF)


def loop_backing(device: str) -> tuple[int, int] | None:
    """The (st_dev, st_ino) of the file behind a loop device; None when it has been detached.

    The path that sysfs shows is written from another mount namespace's point of view, so it says nothing.
    """
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return file_behind(fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def file_behind(fd: int) -> tuple[int, int] | None:
    """The (st_dev, st_ino) of the file behind an open loop device; None when it is free."""
    status = _loop_status(fd)
    return None if status is None else status[:2]


def whole_file_behind(fd: int) -> tuple[int, int] | None:
    """Like file_behind(), but None also for a device that shows a part of its file or isn't a loop device."""
    try:
        status = _loop_status(fd)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL):
            return None
        raise
    return None if status is None or status[2] else status[:2]


def _loop_status(fd: int) -> tuple[int, int, int] | None:
    """The device and inode of the file behind a loop device, and where in it the device begins."""
    try:
        info = fcntl.ioctl(fd, _LOOP_GET_STATUS64, bytes(_LOOP_INFO64_SIZE))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise
    # lo_device is the kernel's huge_encode_dev: the same layout that st_dev has in user space.
    device, inode, _, offset = struct.unpack_from("QQQQ", info)
    return device, inode, offset


def is_immutable(fd: int) -> bool:
    """Whether an open directory has the immutable flag; never, where its filesystem has no such flag."""
    try:
        (flags,) = struct.unpack("i", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(4)))
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP):
            return False
        raise
    return bool(flags & _FS_IMMUTABLE_FL)


def set_immutable(fd: int) -> None:
    """Set an open directory's immutable flag, where its filesystem has such a flag."""
    try:
        (flags,) = struct.unpack("i", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(4)))
        if not flags & _FS_IMMUTABLE_FL:
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("i", flags | _FS_IMMUTABLE_FL))
    except OSError:
        return


def mount(source: str, target: str, fstype: str, flags: int, options: str) -> None:
    """mount(2)."""
    import ctypes  # a third of a light child's start-up time; only who mounts pays it

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), fstype.encode(), ctypes.c_ulong(flags), options.encode()) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), source)


def detach(target: str) -> None:
    """umount2(2): take a mount away, also one that is in use; a link at its place isn't followed."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(target.encode(), _MNT_DETACH | _UMOUNT_NOFOLLOW) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), target)


def swapoff(path: str) -> None:
    """swapoff(2)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.swapoff(path.encode()) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), path)
