"""Looking at a mounted volume, component by component, so that no symbolic link is followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from protokube.host.disk.contents import MOST_ENTRIES

if TYPE_CHECKING:
    from protokube.host.disk.contents import Entry


class MountedSource:
    """A mounted volume, by an open descriptor of its root directory."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._device = os.fstat(root).st_dev

    def listings(self, directories: list[str]) -> list[list[Entry]]:
        """See Source. What is mounted over a directory of the volume isn't the volume's and is an "other"."""
        return [self._listing(directory) for directory in directories]

    def _listing(self, directory: str) -> list[Entry]:
        found: list[Entry] = []
        with self._opened(directory, os.O_DIRECTORY) as fd, os.scandir(fd) as listing:
            for entry in listing:
                if len(found) > MOST_ENTRIES:
                    break
                status = entry.stat(follow_symlinks=False)
                found.append((_printable(entry.name), self._kind(status), status.st_size))
        return found

    def _kind(self, status: os.stat_result) -> str:
        if status.st_dev != self._device:
            return "o"
        return "d" if stat.S_ISDIR(status.st_mode) else "f" if stat.S_ISREG(status.st_mode) else "o"

    def contents(self, files: list[tuple[str, int]]) -> list[bytes]:
        """See Source. A file that shrinks meanwhile is shorter: this reads what stands there now."""
        found = []
        for path, size in files:
            with self._opened(path, os.O_NONBLOCK) as fd:
                found.append(os.read(fd, size))
        return found

    def mtime(self, path: str) -> int | None:
        """See Source."""
        with self._opened(path, os.O_NONBLOCK) as fd:
            return os.fstat(fd).st_mtime_ns

    @contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[int]:
        """Open a path component by component, following no link."""
        fd = os.dup(self._root)
        parts = path.split("/") if path else []
        try:
            for depth, part in enumerate(parts, start=1):
                kind = flags if depth == len(parts) else os.O_DIRECTORY
                below = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=fd)
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)


def _printable(name: str) -> str:
    """A name that isn't UTF-8, or would look like a path of ours, shows its bytes."""
    return os.fsencode(name).decode(errors="backslashreplace")
