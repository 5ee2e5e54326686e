"""Ends mkfs, e2fsck or resize2fs at one of its writes, by strace, in the worker that runs it on a node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from protokube.host import children, process

_WRITES = "pwrite64,pwritev,pwritev2"


@contextmanager
def traced_tools(device: str, log: Path, cut_at: int | None = None) -> Iterator[None]:
    """The writes to a disk by whatever works on it are told in `log`, and no others: a format is made in memory
    first. With `cut_at` the process that comes to its write of this number, counted from 1, is killed before that
    reaches the disk."""
    words = ["/usr/bin/strace", "-f", "-qq", "-e", "signal=none", "-e", f"trace={_WRITES}", "-P", device]
    kill = [] if cut_at is None else ["-e", f"inject={_WRITES}:signal=SIGKILL:when={cut_at}"]
    spawn = process.spawn

    def spawn_traced(argv: Sequence[str], fds: Sequence[tuple[int, int]] = (), *, session: bool = False) -> int:
        traced_by = [*words, *kill, "-o", str(log)] if session else []
        return spawn([*traced_by, *argv], fds, session=session)

    with patch.object(children, "spawn", spawn_traced):
        yield
