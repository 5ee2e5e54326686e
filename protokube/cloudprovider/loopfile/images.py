"""Images of `file` volumes: a look tells whether an image is locked; opening locks and checks it, and may make it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from protokube.cloudprovider.static.kinds import ADVICE
from protokube.cloudprovider.static.state import sync_folder
from protokube.errors import ProviderError, VolumeInUseError, explain

_LOOKS = 20
_PAUSE = 0.01
"""A look locks an image for microseconds: an attach outlasts that, 0.2 s in all, and then gives up."""
_KILLED_LOOKS = 1000
"""The kernel lets a killed process's loop device go by and by: 10 s in all."""


class Look(Struct, frozen=True):
    """An image as it stands.

    `file` is (st_dev, st_ino), None without an image. `held`: another open file has it locked. `missing`: there is
    none, or an empty one, which a crash or a wrong command leaves. `pristine`: proven that nothing was
    ever written to it. `trouble`: why it can't serve.
    """

    file: tuple[int, int] | None = None
    held: bool = False
    missing: bool = True
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
                return Look(file, held=True, missing=False, pristine=False, trouble=trouble)
            regular = stat.S_ISREG(info.st_mode)
            # Only while it isn't held: a loop device may have data that hasn't reached the image.
            pristine = regular and _has_no_data(image)
            return Look(file, missing=regular and not info.st_size, pristine=pristine, trouble=trouble)
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


def open_locked(path: str, size: int, holder: str, *, make: bool) -> int:
    """The image, open and locked. With `make`, one that is missing or empty becomes one hole of `size` bytes.

    Without it a missing one is an error: it existed a moment ago, and its data is elsewhere now. `holder` is for the
    message.
    """
    with explain(f"attach {path}", ADVICE), ExitStack() as opened:
        folder = Path(path).parent
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_CREAT if make else 0)
        image = os.open(path, flags, 0o600)
        opened.callback(os.close, image)
        _take(image, path, holder)
        info = os.fstat(image)
        trouble = _trouble(path, info, size)
        if trouble:
            raise ProviderError(f"attach {path}: {trouble}")
        if info.st_size == 0:  # made just now, or left by a crash before it had its size
            if not make:
                raise ProviderError(f"attach {path}: it has become empty; bring the image back")
            os.truncate(image, size)
            os.fsync(image)
            sync_folder(str(folder))
        opened.pop_all()
        return image


def look_after_a_kill(path: str, size: int) -> Look:
    """The image at `path`, which a process that was killed had locked: as soon as its lock is gone, or as it is after
    10 s."""
    for _ in range(_KILLED_LOOKS):
        if not (found := look(path, size)).held:
            break
        time.sleep(_PAUSE)
    return found


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
