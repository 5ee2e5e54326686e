"""The cache: files under the names of their hashes, and the parts of those that are still being fetched.

    <sha256>               a whole file; its hash was right when it came, and is checked again when it is used
    <sha256>.part          what has come so far; locked by whoever fetches it
    <sha256>.part.source   from which URL and version it came, so that it can be gone on with

Everything in it can be removed at any time; it is fetched again if it is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from nodeup.assets.errors import SPACE, MirrorError, full, installing
from nodeup.assets.limits import Limits

_PIECE = 1 << 20


class Source(msgspec.Struct, frozen=True):
    """Where a part came from: the URL's hash, since a URL may hold a signature, and the validator of its version."""

    url: str
    validator: str = ""

    @classmethod
    def of(cls, url: str, validator: str = "") -> Source:
        """The source for a URL."""
        return cls(hashlib.sha256(url.encode()).hexdigest(), validator)


class Cache:
    """A directory of fetched files, made when it is first written to."""

    def __init__(self, directory: str, limits: Limits) -> None:
        self._directory = Path(directory)
        self._limits = limits

    def path(self, sha256: str) -> Path:
        """Where a whole file lies."""
        return self._directory / sha256

    def has(self, sha256: str) -> bool:
        """Whether a file lies there whole."""
        return self.path(sha256).is_file()

    def drop(self, sha256: str) -> None:
        """Remove a whole file."""
        self.path(sha256).unlink(missing_ok=True)

    @contextmanager
    def part(self, sha256: str) -> Iterator[Part | None]:
        """The part of a file, locked; None when the file is whole, perhaps by another program's doing."""
        path = self._directory / f"{sha256}.part"
        with installing(f"cache {self._directory}"):
            self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            opened = _locked(path, lambda: self.has(sha256))
        if opened is None:
            yield None
            return
        try:
            yield Part(opened, path, self.path(sha256), self._limits.reserve)
        finally:
            os.close(opened)


def _locked(path: Path, whole: Callable[[], bool]) -> int | None:
    """Open and lock a part; None when the file is whole by the time that the lock is held."""
    while True:
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(opened, fcntl.LOCK_EX)
        there = _inode(path) == os.fstat(opened).st_ino
        if whole():
            if there:
                path.unlink()
            os.close(opened)
            return None
        if there:
            return opened
        os.close(opened)  # it was finished, or given up, by the one who held the lock


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


class Part:
    """A file as far as it has come. `size` is its length in bytes; `until` ends its mirror's time (monotonic)."""

    def __init__(self, opened: int, path: Path, whole: Path, reserve: int) -> None:
        self._opened = opened
        self._path = path
        self._whole = whole
        self._source = path.with_name(path.name + ".source")
        self._reserve = reserve
        self.size = os.fstat(opened).st_size
        self._hash = hashlib.sha256()
        self._hashed = 0
        self.until = math.inf

    @property
    def source(self) -> Source | None:
        """Where it came from, None when that isn't known."""
        try:
            return msgspec.json.decode(self._source.read_bytes(), type=Source)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def digest(self) -> str:
        """The SHA-256 of what has come so far."""
        while piece := os.pread(self._opened, _PIECE, self._hashed):
            self._hash.update(piece)
            self._hashed += len(piece)
        return self._hash.hexdigest()

    def begin(self, source: Source) -> None:
        """Throw away what has come, and note where the file comes from now."""
        with _full():
            self.clear()
            self._source.write_bytes(msgspec.json.encode(source))

    def clear(self) -> None:
        """Throw away what has come."""
        self._source.unlink(missing_ok=True)
        os.ftruncate(self._opened, 0)
        self.size = self._hashed = 0
        self._hash = hashlib.sha256()

    def room(self, more: int) -> None:
        """Raise MirrorError when the filesystem has no room for so many more bytes."""
        free = _free(self._opened)
        if more + self._reserve > free:
            keep = f", of which {self._reserve} stay free" if self._reserve else ""
            raise MirrorError(f"{more} bytes where {free} are free in {self._path.parent}{keep}", SPACE)

    def append(self, data: bytes) -> None:
        """Add bytes at the end. A full disk discards the partial file, so that other downloads go on."""
        with _full():
            try:
                view = memoryview(data)
                at = self.size
                while view:
                    count = os.pwrite(self._opened, view, at)
                    at, view = at + count, view[count:]
            except OSError as error:
                if full(error):
                    self.clear()
                raise
        if self._hashed == self.size:
            self._hash.update(data)
            self._hashed += len(data)
        self.size += len(data)

    def finish(self) -> None:
        """Make it the whole file, on disk when this returns."""
        with _full():
            os.fchmod(self._opened, 0o644)
            os.fsync(self._opened)
            self._source.unlink(missing_ok=True)
            self._path.rename(self._whole)
            folder = os.open(self._whole.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


@contextmanager
def _full() -> Iterator[None]:
    """A full cache is a failure by its own rule; everything else that a disk refuses names the cache."""
    try:
        yield
    except OSError as error:
        if full(error):
            raise MirrorError(f"the cache's disk is full: {error.strerror}", SPACE) from error
        with installing("cache"):
            raise


def _free(opened: int) -> int:
    info = os.fstatvfs(opened)
    return info.f_bavail * info.f_frsize
