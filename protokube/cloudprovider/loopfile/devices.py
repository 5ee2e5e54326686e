"""Loop devices by ioctl: bind an open file to one that vanishes with its last user, and find the one of a file.

Numbers and layouts are those of the kernel's include/uapi/linux/loop.h (LOOP_CONFIGURE: Linux 5.8).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from protokube.cloudprovider.loopfile.backing import Backing, File, name_of
from protokube.errors import ProviderError, explain
from protokube.kernel import mountinfo

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


def mounted_below(root: str, backing: Backing) -> set[File]:
    """The files behind loop devices that are mounted below `root`, in this mount namespace, and answer."""
    prefix = root.rstrip("/") + "/"
    with explain("look at mounted loop devices"):
        numbers = {os.makedev(*line.number) for line in mountinfo.read() if line.target.startswith(prefix)}
        return backing.files(name_of(number) for number in numbers if os.major(number) == _MAJOR)


def bound(backing: Backing) -> set[File]:
    """The file behind every loop device that can be opened here and answers."""
    with explain("look at loop devices"):
        return backing.files(Path(path).name for path in _devices())
