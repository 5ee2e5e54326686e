"""Paths below a volume that don't lead out of it: its containers may leave links there (CVE-2017-1002101)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from protokube.errors import ProviderError, explain

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def below(volume: Path, sub_path: str, *, make: bool) -> Path:
    """Return the path of `sub_path` within a volume. `make`: missing directories are made.

    Each part is opened from the one before it, and no link is followed. Raises ProviderError for a link, also for one
    that stays in the volume, and for a path that isn't there. It holds for the moment: who may write to the volume
    can put a link there before the path is mounted.
    """
    path = volume
    with explain(f"open {volume}"):
        held = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in sub_path.split("/"):
            if name in ("", "."):
                continue
            path = path / name
            with explain(f"open {path}"):
                opened = _opened(name, held, make=make)
            os.close(held)
            held = opened
            if stat.S_ISLNK(os.fstat(held).st_mode):
                raise ProviderError(f"subPath {path}: it is a symbolic link; a file or directory was expected")
    finally:
        os.close(held)
    return path


def _opened(name: str, directory: int, *, make: bool) -> int:
    if make:
        try:
            return os.open(name, _LOOK, dir_fd=directory)
        except FileNotFoundError:
            os.mkdir(name, dir_fd=directory)
    return os.open(name, _LOOK, dir_fd=directory)
