"""Images of `file` volumes: looking at one tells whether its lock is held; opening one makes, locks and checks it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from protokube.cloudprovider.loopfile.state import sync_folder
from protokube.errors import ProviderError, VolumeInUseError, explain

_LOOKS = 20
_PAUSE = 0.01
"""Whoever looks at an image locks it for microseconds: an attach outlasts that, 0.2 s in all, and then gives up."""

ADVICE = {
    errno.EPERM: "run it as root; a container needs the right to use loop devices",
    errno.EROFS: "that filesystem is read-only: keep the inventory's files on a writable one",
}
"""What is better said of images, and of the files beside them, than the usual."""


class Look(Struct, frozen=True):
    """An image as it stands.

    `file` is (st_dev, st_ino), None without an image. `held`: somebody has it locked. `pristine`: proven that
    nothing was ever written to it. `trouble`: why it can't serve.
    """

    file: tuple[int, int] | None = None
    held: bool = False
    pristine: bool = True
    trouble: str | None = None


def look(path: str, size: int) -> Look:
    """The image at `path`, which should have `size` bytes. Nothing is made or written."""
    with explain(f"look at {path}", ADVICE):
        try:
            image = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return Look()
        try:
            info = os.fstat(image)
            file = (info.st_dev, info.st_ino)
            trouble = _trouble(path, info, size)
            try:
                # Shared: two that look don't take each other for a holder.
                fcntl.flock(image, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return Look(file, held=True, pristine=False, trouble=trouble)
            # Only while nobody holds it: a loop device may have data that hasn't reached the image.
            return Look(file, pristine=stat.S_ISREG(info.st_mode) and _has_no_data(image), trouble=trouble)
        finally:
            os.close(image)


def _trouble(path: str, info: os.stat_result, size: int) -> str | None:
    if not stat.S_ISREG(info.st_mode):
        return f"{path} is not a regular file"
    if info.st_size not in (0, size):
        return f"{path} has {info.st_size} bytes, the inventory says {size}: correct the inventory or the file"
    return None


def _has_no_data(image: int) -> bool:
    """Whether the file is one hole. A filesystem that can't tell holes shows everything as data."""
    try:
        os.lseek(image, 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return True
        raise
    return False


def open_locked(path: str, size: int, holder: str) -> int:
    """The image, open and locked; made as one hole of `size` bytes if there is none. `holder` is for the message."""
    with explain(f"attach {path}", ADVICE), ExitStack() as opened:
        folder = Path(path).parent
        folder.mkdir(parents=True, exist_ok=True)
        image = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        opened.callback(os.close, image)
        _take(image, path, holder)
        info = os.fstat(image)
        trouble = _trouble(path, info, size)
        if trouble:
            raise ProviderError(f"attach {path}: {trouble}")
        if info.st_size == 0:  # new, or left by a crash before it had its size
            os.truncate(image, size)
            os.fsync(image)
            sync_folder(str(folder))
        opened.pop_all()
        return image


def _take(image: int, path: str, holder: str) -> None:
    for attempt in range(_LOOKS):
        try:
            fcntl.flock(image, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < _LOOKS:
                time.sleep(_PAUSE)
        else:
            return
    raise VolumeInUseError(f"attach {path}: in use by {holder}")
