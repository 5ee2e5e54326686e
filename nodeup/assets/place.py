"""One file's place: written beside it, on disk before it is seen, and renamed over it. Never half there."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from nodeup.assets.errors import INSTALL, SPACE, AssetError, installing
from protokube.core.node.containerd import DEBIAN_PLUGINS, UPSTREAM_PLUGINS
from protokube.host.walk import open_plain, parts_of

_PIECE = 1 << 20


class Readable(Protocol):
    """Whatever gives bytes."""

    def read(self, size: int, /) -> bytes:
        """So many bytes at most; none at the end."""


class Place:
    """A name in an open directory. `path` is absolute, without the root prefix."""

    def __init__(self, path: str, folder: int) -> None:
        self.path = path
        self._folder = folder
        self._name = os.path.basename(path)  # noqa: PTH119 - a name in an open directory
        self._temporary = f".{self._name}.protokube-new"

    def stat(self) -> os.stat_result | None:
        """The regular file that stands there; None when nothing does, or a link of nodeup's to a plugin of Debian's.

        Anything else raises AssetError.
        """
        try:
            info = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(info.st_mode) and self._is_plugin_link():
            return None
        if not stat.S_ISREG(info.st_mode):
            kind = "symbolic link" if stat.S_ISLNK(info.st_mode) else "directory, or a special file"
            raise AssetError(INSTALL, f"{self.path}: a {kind} (expected a file, or nothing); move it away")
        return info

    def _is_plugin_link(self) -> bool:
        """Whether the link was only put there because no plugin was."""
        target = os.readlink(self._name, dir_fd=self._folder)
        leads_to = posixpath.normpath(posixpath.join(UPSTREAM_PLUGINS, target))
        return self.path == f"{UPSTREAM_PLUGINS}/{self._name}" and leads_to == f"{DEBIAN_PLUGINS}/{self._name}"

    def digest(self) -> str:
        """The SHA-256 of the file that stands there."""
        opened = os.open(self._name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
        with open(opened, "rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def set_mode(self, mode: int) -> None:
        """Change the mode of the file that stands there."""
        opened = os.open(self._name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
        try:
            os.fchmod(opened, mode)
            os.fsync(opened)
        finally:
            os.close(opened)

    def room(self, size: int, reserve: int) -> None:
        """Raise AssetError when its filesystem has no room for so many bytes."""
        info = os.fstatvfs(self._folder)
        free = info.f_bavail * info.f_frsize
        if size + reserve > free:
            raise AssetError(SPACE, f"{self.path}: {size} bytes where {free} are free; free space on that filesystem")

    def stage(self, pieces: Iterable[bytes], mode: int) -> str:
        """Write the new file beside the old one, and return its SHA-256."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        seen = hashlib.sha256()
        with installing(self.path):
            self.abandon()
            opened = os.open(self._temporary, flags, 0o600, dir_fd=self._folder)
            with open(opened, "wb", buffering=0) as file:
                for piece in pieces:
                    seen.update(piece)
                    view = memoryview(piece)
                    while view:
                        view = view[file.write(view) :]
                os.fchmod(opened, mode)
                os.fsync(opened)
        return seen.hexdigest()

    def commit(self) -> None:
        """Rename the new file over the old one."""
        with installing(self.path):
            os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            os.fsync(self._folder)

    def abandon(self) -> None:
        """Remove the new file; absent is fine."""
        with suppress(FileNotFoundError):
            os.unlink(self._temporary, dir_fd=self._folder)


@contextmanager
def place(root: str, path: str, *, make: bool) -> Iterator[Place]:
    """The place of a path below a root. With `make` the missing directories are made, else FileNotFoundError."""
    with installing(path):
        folder = open_plain(os.path.realpath(root), parts_of(path)[:-1], make=make)
        try:
            yield Place(path, folder)
        finally:
            os.close(folder)


def pieces_of(file: Readable) -> Iterator[bytes]:
    """A file's content, piece by piece."""
    while piece := file.read(_PIECE):
        yield piece
