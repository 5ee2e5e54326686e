"""The node's files: atomic writes, relative links, and no step outside of the root or off a volume.

Every operation opens the directory first and then works on one name in it: an exchanged path can't divert it. Two
ways lead to a directory:

- A plain path is walked from the root like any program would, links included, but must end below the root.
- A path on a volume starts at the mount point, whose device must be the volume's, and follows no symbolic
  link and crosses into no other filesystem: a planted link can't make root write elsewhere.

A write goes to `.<name>.protokube-new` beside the file and is renamed over it. A crash may leave such a file behind;
the next write removes it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from protokube.core.model import MIB
from protokube.core.node.actions import MakeDirectory, MakeLink, RemoveFile, Unlink, WriteFile
from protokube.core.node.model import Absent, Directory, File, FileState, Link, OnVolume, OtherFile
from protokube.core.volumes.model import MOUNT_PREFIX
from protokube.errors import ProviderError, explain
from protokube.host.walk import BlockedError, descend, make_directory, open_plain, open_volume, parts_of

_TEMPORARY = ".protokube-new"
_TEXT_LIMIT = MIB
_KINDS = {
    stat.S_IFREG: "regular file",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFDIR: "directory",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "pipe",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}


class NodeFiles:
    """The files below `root` (a path of this machine); implements `ports.Files`.

    Paths given and returned are absolute and without the root prefix. Below a volume's mount point no symbolic link
    is followed.
    """

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)

    # --- reading -------------------------------------------------------------------------------

    def read(self, paths: Sequence[str]) -> Mapping[str, FileState]:
        """The state of each path, not following a link at its end.

        A path that can't be reached (a link on a volume, a file where a directory should be) or can't be read (a
        failing disk) is an `OtherFile` whose kind says so. A relative link's target is resolved to an absolute path
        without the root prefix; an absolute one stays as written.
        """
        return {path: self._read(path) for path in paths}

    def listing(self, directory: str) -> Mapping[str, FileState]:
        """The state of each entry of a directory, by full path; empty when the directory is absent.

        Our own temporary files are left out.
        """
        with explain(f"list {directory}"):
            try:
                with self._reading(f"{directory}/.") as (folder, _):
                    names = sorted(os.listdir(folder))  # noqa: PTH208 - an open directory, not a path
            except FileNotFoundError:
                return {}
        base = directory.rstrip("/")
        return self.read([f"{base}/{name}" for name in names if not _is_temporary(name)])

    def _read(self, path: str) -> FileState:
        with explain(f"read {path}"):
            try:
                with self._reading(path) as (folder, name):
                    return self._state(folder, name)
            except FileNotFoundError:
                return Absent()
            except BlockedError as blocked:
                return OtherFile(str(blocked))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                # One dead disk must not hide the state of every other path.
                return OtherFile(f"unreadable: {error.strerror}")

    @contextmanager
    def _reading(self, path: str) -> Iterator[tuple[int, str]]:
        """The open directory of `path` and the name in it, without making anything."""
        parts = parts_of(path)
        depth = MOUNT_PREFIX.count("/")
        on_volume = len(parts) > depth and f"/{'/'.join(parts[:depth])}".startswith(MOUNT_PREFIX)
        name = "." if path.endswith("/.") else parts.pop()
        base = parts[:depth] if on_volume else parts
        folder = open_plain(self._root, base, make=False)
        if on_volume:
            folder = descend(folder, parts[depth:], place="/" + "/".join(base), make=False)
        try:
            yield folder, name
        finally:
            os.close(folder)

    def _state(self, folder: int, name: str) -> FileState:
        """The state of a name in an open directory."""
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        mode = stat.S_IMODE(info.st_mode)
        if stat.S_ISLNK(info.st_mode):
            target = self._outside_in(folder, os.readlink(name, dir_fd=folder))
            return Link(target, info.st_mtime_ns)
        if stat.S_ISDIR(info.st_mode):
            return Directory(mode)
        if not stat.S_ISREG(info.st_mode):
            return OtherFile(_KINDS.get(stat.S_IFMT(info.st_mode), "unknown kind of file"))
        text = _text(_content(folder, name)) if info.st_size <= _TEXT_LIMIT else None
        return File(text, mode, info.st_mtime_ns)

    def _outside_in(self, folder: int, target: str) -> str:
        """A link's target as an absolute path without the root prefix."""
        if target.startswith("/"):
            return target
        return os.path.normpath(os.path.join(self._place(folder), target))  # noqa: PTH118 - strings throughout

    def _place(self, folder: int) -> str:
        """The real path of an open directory, absolute and without the root prefix."""
        return "/" + str(Path(f"/proc/self/fd/{folder}").readlink())[len(self._root) :].strip("/")

    # --- writing -------------------------------------------------------------------------------

    def make_directory(self, action: MakeDirectory) -> None:
        """Make a directory and its missing parents, and set its mode."""
        with explain(f"make directory {action.path}"), self._folder(action.path, action.volume) as (folder, name):
            make_directory(folder, name)
            opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                if stat.S_IMODE(os.fstat(opened).st_mode) != action.mode:
                    os.fchmod(opened, action.mode)
                    os.fsync(opened)
            finally:
                os.close(opened)

    def write(self, action: WriteFile) -> None:
        """Write beside, fsync, rename, fsync the directory. Write nothing when the file has this content and mode."""
        content = action.content.encode()
        with explain(f"write {action.path}"), self._folder(action.path, action.volume) as (folder, name):
            temporary = _clear_temporary(folder, name)
            info = _expect(folder, name, action.path, stat.S_IFREG)
            same_size = info is not None and info.st_size == len(content)
            if info and same_size and stat.S_IMODE(info.st_mode) == action.mode and _content(folder, name) == content:
                return
            try:
                _write_new(folder, temporary, content, action.mode)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                _clear_temporary(folder, name)
                raise
            os.fsync(folder)

    def link(self, action: MakeLink) -> None:
        """Rename a new relative link over the old one; a file that isn't a link is an error and stays."""
        parts_of(action.target)
        with explain(f"link {action.path}"), self._folder(action.path, None) as (folder, name):
            temporary = _clear_temporary(folder, name)
            _expect(folder, name, action.path, stat.S_IFLNK)
            os.symlink(os.path.relpath(action.target, self._place(folder)), temporary, dir_fd=folder)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)

    def unlink(self, action: Unlink) -> None:
        """Remove a link; absent is fine, anything else is an error and stays."""
        with explain(f"unlink {action.path}"):
            self._remove(action.path, stat.S_IFLNK)

    def remove(self, action: RemoveFile) -> None:
        """Remove a regular file; absent is fine, anything else is an error and stays."""
        with explain(f"remove {action.path}"):
            self._remove(action.path, stat.S_IFREG)

    def _remove(self, path: str, kind: int) -> None:
        try:
            with self._folder(path, None, make=False) as (folder, name):
                if _expect(folder, name, path, kind):
                    os.unlink(name, dir_fd=folder)
                    os.fsync(folder)
        except FileNotFoundError:
            return  # a directory above it is missing, and so is the entry

    @contextmanager
    def _folder(self, path: str, volume: OnVolume | None, *, make: bool = True) -> Iterator[tuple[int, str]]:
        """The open directory of `path` and the name in it; with `make`, missing directories are made."""
        *parents, name = parts_of(path)
        if volume is None:
            folder = open_plain(self._root, parents, make=make)
        else:
            folder = open_volume(self._root, volume, path, make=make)
        try:
            yield folder, name
        finally:
            os.close(folder)


def _temporary(name: str) -> str:
    return f".{name}{_TEMPORARY}"


def _clear_temporary(folder: int, name: str) -> str:
    """Remove a temporary file that a crash left, and return the name to write under."""
    temporary = _temporary(name)
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    return temporary


def _expect(folder: int, name: str, path: str, kind: int) -> os.stat_result | None:
    """The file's state, None when absent. Raises ProviderError when it is of another kind than `kind`."""
    try:
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    found = stat.S_IFMT(info.st_mode)
    if found == kind:
        return info
    target = f" (to {os.readlink(name, dir_fd=folder)})" if found == stat.S_IFLNK else ""
    raise ProviderError(
        f"{path} is a {_KINDS.get(found, 'file of an unknown kind')}{target}, where a {_KINDS[kind]} was expected; "
        "it is left alone: move it away"
    )


def _write_new(folder: int, name: str, content: bytes, mode: int) -> None:
    opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    with open(opened, "wb", buffering=0) as file:
        view = memoryview(content)
        while view:
            view = view[file.write(view) :]
        os.fchmod(opened, mode)
        os.fsync(opened)


def _content(folder: int, name: str) -> bytes:
    """A regular file's bytes, as far as the limit and one byte beyond it."""
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with open(opened, "rb", buffering=0) as file:
        data = bytearray()
        while len(data) <= _TEXT_LIMIT and (more := file.read(_TEXT_LIMIT + 1 - len(data))):
            data += more
        return bytes(data)


def _text(data: bytes) -> str | None:
    if len(data) > _TEXT_LIMIT:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(_TEMPORARY)
