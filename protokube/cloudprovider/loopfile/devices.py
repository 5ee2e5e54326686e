"""Loop devices by ioctl: bind an open file to one that vanishes with its last user, and find the one of a file.

Numbers and layouts are those of the kernel's include/uapi/linux/loop.h (LOOP_CONFIGURE: Linux 5.8).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from protokube.errors import OutcomeUnknownError, ProviderError, explain
from protokube.kernel import calls, mountinfo
from protokube.together import Limited

_MAJOR = 7
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4

# struct loop_info64: device, inode, rdevice, offset, sizelimit; number, two of encryption, flags; names, key; init
_INFO = struct.Struct("=5Q4I64s64s32s2Q")
# struct loop_config: fd, block_size; a loop_info64; 8 reserved words
_CONFIG_HEAD = struct.Struct("=2I")
_RESERVED = bytes(64)

_NOT_HERE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV)
"""A container may show fewer loop devices than the kernel has, forbid some, or show some that aren't there."""

_LIMIT = 1.0
"""Seconds that a loop device has to tell its file."""

_RACES = 64
"""How often another process may take the free device before we do."""


def bind(image: int) -> int:
    """Bind an open image to a free loop device and return that device, open. Its last user's close unbinds it.

    The device keeps the very open file description, and with it an flock that was taken there.
    """
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, _LO_FLAGS_AUTOCLEAR, b"", b"", b"", 0, 0)
    config = _CONFIG_HEAD.pack(image, 0) + info + _RESERVED
    for path in _candidates():
        try:
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            continue
        try:
            fcntl.ioctl(device, _LOOP_CONFIGURE, config)
        except OSError as error:
            os.close(device)
            if error.errno != errno.EBUSY:
                raise
        else:
            return device
    raise ProviderError(
        "no free loop device can be opened: hand /dev/loop-control and more of /dev/loop0, /dev/loop1, … into the "
        "container; on the machine itself, see `losetup -l` for their users"
    )


def _candidates() -> Iterator[str]:
    """Paths of loop devices that may be free: the kernel's offer, then those that a container may have instead."""
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield from _devices()
        return
    try:
        for _ in range(_RACES):
            path = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            yield path
            if not Path(path).exists():
                break
    finally:
        os.close(control)
    yield from _devices()


def _devices() -> list[str]:
    """The paths of the loop devices that this machine, or container, shows."""
    return [str(path) for path in Path("/dev").glob("loop[0-9]*") if path.name[4:].isdigit()]


def _backing_of(path: str) -> tuple[int, int] | None:
    """(st_dev, st_ino) of the file behind the loop device at `path`; None when it is free or isn't shown here."""
    try:
        device = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NOT_HERE:
            return None
        raise
    try:
        return calls.file_behind(device)
    finally:
        os.close(device)


def mounted_below(root: str) -> set[tuple[int, int]]:
    """(st_dev, st_ino) of the files behind loop devices that are mounted below `root`, in this mount namespace."""
    prefix = root.rstrip("/") + "/"
    with explain("look at mounted loop devices"):
        numbers = {line.number for line in mountinfo.read() if line.target.startswith(prefix)}
        # A loop device's minor number is not always its own: it may leave room for partitions.
        names = [
            Path(f"/sys/dev/block/{_MAJOR}:{minor}").readlink().name for major, minor in numbers if major == _MAJOR
        ]
        found = [_backing_of(f"/dev/{name}") for name in names]
    return {file for file in found if file is not None}


class Bound:
    """Tells whether a file stands behind a loop device.

    The kernel asks the filesystem of the file behind each device, which may hang. A device that doesn't answer in
    time can't be that of a file whose own filesystem has just answered.
    """

    def __init__(self) -> None:
        self._asked: Limited[tuple[int, int] | None] = Limited(_LIMIT, "ask")

    def has(self, file: tuple[int, int]) -> bool:
        """Whether `file`, (st_dev, st_ino) of a file that was opened just now, is behind a loop device shown here."""
        answers = self._asked.run({path: partial(_backing_of, path) for path in _devices()})
        with explain("look at loop devices"):
            return any(not _hangs(answer) and answer.result() == file for answer in answers.values())


def _hangs(answer: Future[tuple[int, int] | None]) -> bool:
    return isinstance(answer.exception(), OutcomeUnknownError)
