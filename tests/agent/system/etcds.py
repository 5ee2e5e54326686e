"""The etcds of a node as the machine sees them, so that not one moment with two of a member is missed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Watched:
    """The etcds of a node, as its own /proc shows them again and again; two of one member are kept.

    `proc`: where that is found from outside. It shows the processes of containers too.
    """

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self.twice: set[str] = set()
        self.looks = 0

    def pids(self) -> dict[str, int]:
        """Data directory → process."""
        found: list[tuple[str, int]] = []
        for folder in self._proc.glob("[0-9]*"):
            with suppress(OSError):
                if (folder / "comm").read_text() != "etcd\n":
                    continue
                if (folder / "stat").read_text().rpartition(") ")[2].startswith("Z"):
                    continue
                environment = (folder / "environ").read_text().split("\0")
                found += [(one, int(folder.name)) for one in environment if one.startswith("ETCD_DATA_DIR=")]
        self.twice |= {name for name, count in Counter(name for name, _ in found).items() if count > 1}
        self.looks += 1
        return dict(found)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look all the time."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.01):
                self.pids()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
