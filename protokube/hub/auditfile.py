"""An audit in a file: each line is on the disk before what it tells of happens. Several processes may write it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from protokube.agent import files
from protokube.core.model import MIB, Fault
from protokube.errors import ProviderError, explain
from protokube.hub.core.audit import Head, append, verify

PART = MIB
"""Bytes of an audit that are in memory at once. A line has a few hundred."""


class AuditFile:
    """The audit at a path. `clock`: seconds since the epoch."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._head = Head()
        self._size = 0

    def head(self) -> Head:
        """The end of the audit. Raises ProviderError where the lines since the last look don't hold."""
        with explain(f"read {self._path}"):
            if not self._path.exists():
                return Head()
            with self._path.open("rb") as file:
                self._catch_up(file.fileno())
        return self._head

    def write(self, who: str, what: str, subject: str) -> Head:
        """Append a line, and bring it to the disk. Raises ProviderError."""
        return self.write_all([(who, what, subject)])

    def write_all(self, entries: Sequence[tuple[str, str, str]]) -> Head:
        """Append lines (who, what, of which command or node), and bring them to the disk. Raises ProviderError."""
        with explain(f"write {self._path}"):
            opened = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX)
                self._catch_up(opened)
                lines, head = b"", self._head
                for who, what, subject in entries:
                    line, head = append(head, self._clock(), who, what, subject)
                    lines += line + b"\n"
                os.ftruncate(opened, self._size)  # a line that was cut off tells of nothing that happened
                files.append(opened, lines, self._size)
                self._head, self._size = head, self._size + len(lines)
            finally:
                os.close(opened)
        return self._head

    def lines(self) -> Iterator[bytes]:
        """Every whole line. Raises ProviderError."""
        with explain(f"read {self._path}"):
            if not self._path.exists():
                return
            with self._path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        yield line[:-1]

    def part(self, begin: int) -> bytes:
        """Whole lines from an offset in bytes, at most PART bytes of them; empty at the end. Raises ProviderError."""
        with explain(f"read {self._path}"):
            if not self._path.exists():
                return b""
            with self._path.open("rb") as file:
                data = os.pread(file.fileno(), PART, begin)
        return _whole(data)

    def _catch_up(self, opened: int) -> None:
        """Take in the lines since the last look, part by part: an audit only ever grows."""
        size = os.fstat(opened).st_size
        if size < self._size:
            raise ProviderError(f"{self._path}: lines were removed while it was in use; see protokube-hub verify")
        while whole := _whole(os.pread(opened, PART, self._size)):
            read = verify(whole.splitlines(), self._head)
            if isinstance(read, Fault):
                raise ProviderError(f"{self._path}: {read}; keep it as evidence, and begin a new one")
            self._head, self._size = read, self._size + len(whole)


def _whole(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]
