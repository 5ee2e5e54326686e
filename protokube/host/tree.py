"""What a volume holds, as far as it concerns us: the same picture of a mounted volume and of an unmounted disk.

Only the directories that protokube or kops make are listed, and no symbolic link is ever followed: a planted link
must not show us, or make root write to, another place.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Source(Protocol):
        """Where a picture is taken from. Paths are relative; the empty one is the volume's root."""

        def entries(self, directory: str) -> list[tuple[str, str]]:
            """The name and kind ("d" directory, "f" regular file, "o" other) of at most MOST_ENTRIES + 1 entries."""

        def content(self, path: str) -> bytes:
            """At most MOST_BYTES + 1 bytes of a regular file."""

        def mtime(self, path: str) -> int | None:
            """When a file was written, in nanoseconds; None when the source can't tell."""


MOST_ENTRIES = 1000
MOST_BYTES = 256 << 10

_DESCEND = frozenset({"var", "var/etcd", "k8s.io", "k8s.io/manifests"})
_DATA = "var/etcd/data"
_IDENTITY = "k8s.io/identity.yaml"
_MANIFESTS = "k8s.io/manifests/"


class Picture:
    """The fields of core.model.Tree, built up."""

    __slots__ = ("entries", "mtimes", "overflow", "texts")

    def __init__(self) -> None:
        self.entries: set[str] = set()
        self.texts: dict[str, str] = {}
        self.mtimes: dict[str, int] = {}
        self.overflow = False


def collect(source: Source) -> Picture:
    """Take the picture."""
    picture = Picture()
    directories = [""]
    for directory in directories:
        prefix = f"{directory}/" if directory else ""
        listed = source.entries(directory)
        picture.overflow |= len(listed) > MOST_ENTRIES
        for name, kind in listed[:MOST_ENTRIES]:
            path = prefix + name
            picture.entries.add(path + "/" if kind == "d" else path)
            if kind == "d" and _concerns_us(path):
                directories.append(path)
            elif kind == "f" and (path == _IDENTITY or path.startswith(_MANIFESTS)):
                _read(source, path, picture)
    return picture


def _concerns_us(path: str) -> bool:
    return path in _DESCEND or (path.startswith(_DATA) and path.count("/") == _DATA.count("/"))


def _read(source: Source, path: str, picture: Picture) -> None:
    content = source.content(path)
    if len(content) > MOST_BYTES:
        picture.overflow = True
        return
    picture.texts[path] = content.decode(errors="backslashreplace")
    mtime = source.mtime(path)
    if mtime is not None:
        picture.mtimes[path] = mtime


class MountedSource:
    """A mounted volume, by an open descriptor of its root directory."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._device = os.fstat(root).st_dev

    def entries(self, directory: str) -> list[tuple[str, str]]:
        """See Source. What is mounted over a directory of the volume isn't the volume's and is an "other"."""
        found: list[tuple[str, str]] = []
        with self._opened(directory, os.O_DIRECTORY) as fd, os.scandir(fd) as listing:
            for entry in listing:
                if len(found) > MOST_ENTRIES:
                    break
                found.append((_printable(entry.name), self._kind(entry.stat(follow_symlinks=False))))
        return found

    def _kind(self, status: os.stat_result) -> str:
        if status.st_dev != self._device:
            return "o"
        return "d" if stat.S_ISDIR(status.st_mode) else "f" if stat.S_ISREG(status.st_mode) else "o"

    def content(self, path: str) -> bytes:
        """See Source."""
        with self._opened(path, os.O_NONBLOCK) as fd:
            return os.read(fd, MOST_BYTES + 1)

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
