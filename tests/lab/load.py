"""A client that writes to etcd all the time, and remembers what was acknowledged."""

from __future__ import annotations

import threading
import time
from typing import Self

from tests.lab.cluster import LIMIT
from tests.lab.trial import TrialNode, until


class Writer:
    """Writes through a node's own member. `kept` are the keys that were acknowledged, `longest` is the longest time
    in seconds between two acknowledgements."""

    def __init__(self, node: TrialNode, port: int = 4001) -> None:
        self._node, self._port = node, port
        self._stop = threading.Event()
        self.kept: list[str] = []
        self.longest = 0.0
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _write(self) -> None:
        last, number = time.monotonic(), 0
        while not self._stop.is_set():
            number += 1
            if self._node.etcdctl("put", f"load/{number}", "x", port=self._port).returncode == 0:
                self.kept.append(f"load/{number}")
                self.longest = max(self.longest, time.monotonic() - last)
                last = time.monotonic()

    def more(self, count: int = 5) -> None:
        """Wait for so many further writes."""
        wanted = len(self.kept) + count
        until("writes go on", lambda: len(self.kept) >= wanted, LIMIT)

    def lost(self, node: TrialNode) -> list[str]:
        """The acknowledged keys that a node's member, with quorum, doesn't have."""
        done = node.etcdctl("get", "load/", "--prefix", "--keys-only", port=self._port)
        assert done.returncode == 0, done.stderr
        return sorted(set(self.kept) - set(done.stdout.split()))
