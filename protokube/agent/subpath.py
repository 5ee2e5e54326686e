"""Parts of volumes that containers mount, found without leaving it, whatever containers exchange there.

A path is found part by part, each opened from the one before, and no link is followed (CVE-2017-1002101). What was
found is mounted by its descriptor at a place of ours, and runtimes mount that place: what a container does to the
path in between changes nothing (CVE-2021-25741).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from protokube.errors import ProviderError, explain
from protokube.kernel.calls import MS_BIND, detach, mount

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def bind(source: str, target: str) -> None:
    """Mount a file or directory at another place, without what is mounted below it. Raises OSError."""
    mount(source, target, "", MS_BIND, "")


def unbind(target: str) -> None:
    """Take the mount away; who mounted it on keeps what it has. Raises OSError."""
    detach(target)


class SubPaths:
    """The parts that are mounted, below a folder that root alone enters: `<uid>/<container>.<number of mount>`."""

    def __init__(
        self, folder: Path, bind: Callable[[str, str], None] = bind, unbind: Callable[[str], None] = unbind
    ) -> None:
        self._folder = folder
        self._bind = bind
        self._unbind = unbind

    def mounted(self, uid: str, name: str, volume: Path, sub_path: str, *, make: bool) -> Path:
        """Mount `sub_path` of a volume; return where. `make`: missing directories are made.

        Raises ProviderError for a link, also for one that stays in the volume, and for a path that isn't there.
        """
        found = _below(volume, sub_path, make=make)
        try:
            place = self._folder / uid / name
            with explain(f"mount {volume / sub_path} at {place}"):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                place.parent.mkdir(exist_ok=True)
                self._clear(place)
                if stat.S_ISDIR(os.fstat(found).st_mode):
                    place.mkdir()
                else:
                    place.touch()
                self._bind(f"/proc/self/fd/{found}", str(place))
        finally:
            os.close(found)
        return place

    def release(self, uid: str) -> None:
        """Take a pod's mounts away. Nothing that is mounted is removed. Raises ProviderError."""
        folder = self._folder / uid
        with explain(f"remove {folder}"):
            if folder.exists():
                for place in list(folder.iterdir()):
                    self._clear(place)
                folder.rmdir()

    def _clear(self, place: Path) -> None:
        """Take away what is mounted at a place, and the place."""
        mounted = True
        while mounted:
            try:
                self._unbind(str(place))
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise
                mounted = False
        if place.is_dir():
            place.rmdir()
        else:
            place.unlink(missing_ok=True)


def _below(volume: Path, sub_path: str, *, make: bool) -> int:
    """Open a path within a volume, to look at and to mount. Raises ProviderError."""
    path = volume
    with ExitStack() as opened:
        with explain(f"open {volume}"):
            held = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, held)
        for name in sub_path.split("/"):
            if name in ("", "."):
                continue
            path = path / name
            with explain(f"open {path}"):
                held = _opened(name, held, make=make)
            opened.callback(os.close, held)
            if stat.S_ISLNK(os.fstat(held).st_mode):
                raise ProviderError(f"subPath {path}: it is a symbolic link; a file or directory was expected")
        return os.dup(held)


def _opened(name: str, directory: int, *, make: bool) -> int:
    if make:
        try:
            return os.open(name, _LOOK, dir_fd=directory)
        except FileNotFoundError:
            os.mkdir(name, dir_fd=directory)
    return os.open(name, _LOOK, dir_fd=directory)
