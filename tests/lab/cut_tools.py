"""Ends mkfs, e2fsck or resize2fs at one of its writes, by strace, in the worker that runs it on a node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from protokube.host import children, process

_STRACE = ("/usr/bin/strace", "-f", "-qq", "-e", "signal=none", "-e", "trace=pwrite64,pwritev")


@contextmanager
def traced_tools(log: Path, cut_at: int | None = None) -> Iterator[None]:
    """Whatever works on a disk writes its writes to `log`. With `cut_at` the process that comes to its write of this
    number, counted from 1, is killed before that reaches the disk."""
    kill = [] if cut_at is None else ["-e", f"inject=pwrite64,pwritev:signal=SIGKILL:when={cut_at}"]
    spawn = process.spawn

    def traced(argv: Sequence[str], fds: Sequence[tuple[int, int]] = (), *, session: bool = False) -> int:
        words = [*_STRACE, *kill, "-o", str(log)] if session else []
        return spawn([*words, *argv], fds, session=session)

    with patch.object(children, "spawn", traced):
        yield
