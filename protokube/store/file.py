"""A store in a directory of this machine, or of a file system that the nodes share.

Writers hold a lock on the directory (flock). A new object is written beside and linked to its name with link(2),
which fails when the name is taken: so it is never half there, even where a file system ignores locks. A changed
object is renamed over the old one, under the lock. Every file and directory is synchronised before a call returns.
A crash leaves at most a temporary file behind; the next writer removes it.

A big object is copied to a temporary file of its own before the lock is taken, so that nobody waits for the copy. Its
writer holds a lock on that file: one without a holder was left by a crash.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from protokube.errors import StoreError
from protokube.ports import StoredObject
from protokube.store.mounted import unmounted
from protokube.store.names import check_deletable, check_name, check_prefix

LOCK_LIMIT = 10.0
"""Seconds to wait for other writers, each of which takes milliseconds."""

_LOCK = ".lock"
_NEW = ".new"
_BIG = ".big-"
_PART = 1 << 20
_LOOK_AGAIN = 0.02


class FileStore:
    """The objects below a directory; implements `ports.Store`.

    `make`: the directory is made by the first write. Without it a missing directory is an error, and so is one where
    a file system is to be mounted: on a shared one that isn't mounted, objects must not be taken for absent.
    """

    def __init__(self, directory: Path, *, make: bool = False, lock_limit: float = LOCK_LIMIT) -> None:
        self._directory = directory
        self._make = make
        self._lock_limit = lock_limit

    def get(self, name: str) -> StoredObject | None:
        """See ports.StoreReader."""
        path = self._directory / check_name(name)
        with _explained("read", path):
            try:
                content = _read(path)
            except FileNotFoundError:
                self._must_be_there()
                return None
        return StoredObject(content, _version(content))

    def list(self, prefix: str) -> Sequence[str]:
        """See ports.StoreReader."""
        top = self._directory / check_prefix(prefix)
        with _explained("list", top):
            self._must_be_there()
            return sorted(str(path.relative_to(self._directory)) for path in _files(top))

    def put_if_absent(self, name: str, content: bytes) -> bool:
        """See ports.Store."""
        path = self._directory / check_name(name)
        with _explained("write", path), self._locked() as new:
            _write(new, content)
            return self._link(new, path)

    def put_file_if_absent(self, name: str, path: Path) -> bool:
        """See ports.BulkStore."""
        target = self._directory / check_name(name)
        with _explained("write", target):
            self._ready()
            new = self._directory / f"{_BIG}{secrets.token_hex(8)}"
            with path.open("rb") as source, open(_created(new), "wb") as copy:
                fcntl.flock(copy, fcntl.LOCK_EX)
                try:
                    shutil.copyfileobj(source, copy, _PART)
                    copy.flush()
                    os.fsync(copy.fileno())
                    with self._locked():
                        return self._link(new, target)
                finally:
                    new.unlink(missing_ok=True)

    def get_file(self, name: str, path: Path) -> bool:
        """See ports.BulkStore."""
        source = self._directory / check_name(name)
        with _explained("read", source):
            try:
                opened = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                self._must_be_there()
                return False
            with open(opened, "rb") as file, open(_created(path), "wb") as copy:
                shutil.copyfileobj(file, copy, _PART)
            return True

    def delete(self, name: str) -> None:
        """See ports.BulkStore."""
        path = self._directory / check_deletable(name)
        with _explained("delete", path), self._locked(), suppress(FileNotFoundError):
            path.unlink()
            _synchronise(path.parent)

    def compare_and_swap(self, name: str, content: bytes, version: str) -> bool:
        """See ports.Store."""
        path = self._directory / check_name(name)
        with _explained("write", path), self._locked() as new:
            try:
                if _version(_read(path)) != version:
                    return False
            except FileNotFoundError:
                return False
            _write(new, content)
            new.rename(path)
            _synchronise(path.parent)
            return True

    def _link(self, new: Path, path: Path) -> bool:
        """Give a complete temporary file its name, unless that is taken."""
        _make_directories(path.parent, self._directory)
        try:
            os.link(new, path)
        except FileExistsError:
            return False
        finally:
            new.unlink()
        _synchronise(path.parent)
        return True

    def _ready(self) -> None:
        """Make the directory, where that is allowed; else it must be there."""
        self._must_be_there()
        if self._make:
            _make_directories(self._directory, Path("/"))

    def _must_be_there(self) -> None:
        if self._make:
            return
        if not self._directory.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such directory; make it, or mount the file system that has it")
        if (why := unmounted(self._directory)) is not None:
            raise FileNotFoundError(errno.ENOENT, why)

    @contextmanager
    def _locked(self) -> Iterator[Path]:
        """Hold the writers' lock, and get the temporary file's path."""
        self._ready()
        held = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._wait_for(held)
            new = self._directory / _NEW
            new.unlink(missing_ok=True)  # a crash has left it: all who write one hold the lock
            _remove_abandoned(self._directory)
            yield new
        finally:
            os.close(held)

    def _wait_for(self, held: int) -> None:
        until = time.monotonic() + self._lock_limit
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= until:
                    reason = f"another program has held its lock for {self._lock_limit:g} s"
                    raise StoreError(f"{self._directory}: {reason}; see who has {_LOCK} open") from error
                time.sleep(_LOOK_AGAIN)
            else:
                return


@contextmanager
def _explained(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{verb} {path} in the store: {error.strerror}") from error


def _version(content: bytes) -> str:
    """The content's hash: an object with the old content is the old object."""
    return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
        return file.read()


def _created(path: Path) -> int:
    """A new file, for root alone."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _remove_abandoned(directory: Path) -> None:
    """Remove the copies of big objects whose writers are gone."""
    for path in directory.glob(f"{_BIG}*"):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _write(path: Path, content: bytes) -> None:
    with open(_created(path), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _make_directories(directory: Path, top: Path) -> None:
    """Make the directories below `top` that lead to `directory`, each durable in the one above it."""
    if directory == top or directory.is_dir():
        return
    if directory.parent != directory:
        _make_directories(directory.parent, top)
    with suppress(FileExistsError):
        directory.mkdir(0o700)
    _synchronise(directory.parent)


def _synchronise(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _files(directory: Path) -> Iterator[Path]:
    """The objects below a directory, without anything whose name starts with a dot."""
    try:
        entries = sorted(directory.iterdir())
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir():
            yield from _files(entry)
        elif entry.is_file():
            yield entry
