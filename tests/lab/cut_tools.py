"""Ends mkfs, e2fsck or resize2fs at one of its writes, by strace, in the worker that runs it on a node."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from protokube.host import children, process

_WRITES = "pwrite64,pwritev,pwritev2"


def tracing(device: str | Path, log: Path, cut_at: int | None = None) -> list[str]:
    """The words before a command by which its writes to a disk are told in `log`, and no others. With `cut_at` the
    process that comes to its write of this number, counted from 1, is killed before that reaches the disk."""
    words = ["/usr/bin/strace", "-f", "-qq", "-e", "signal=none", "-e", f"trace={_WRITES}", "-P", str(device)]
    kill = [] if cut_at is None else ["-e", f"inject={_WRITES}:signal=SIGKILL:when={cut_at}"]
    return [*words, *kill, "-o", str(log)]


def writes_in(log: Path) -> int:
    """How many writes were made or begun."""
    return len(re.findall(r"^\d+ +pwrite", log.read_text(errors="replace"), re.MULTILINE))


@contextmanager
def traced_tools(device: str, log: Path, cut_at: int | None = None) -> Iterator[None]:
    """Trace, or cut, whatever is started to work on a disk. A format is made in memory first, which doesn't count."""
    words, spawn = tracing(device, log, cut_at), process.spawn

    def spawn_traced(argv: Sequence[str], fds: Sequence[tuple[int, int]] = (), *, session: bool = False) -> int:
        return spawn([*(words if session else []), *argv], fds, session=session)

    with patch.object(children, "spawn", spawn_traced):
        yield
