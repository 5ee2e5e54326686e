"""A client that writes to an etcd cluster all the time: what was acknowledged, and the longest gap between two.

It goes on with the next node where one doesn't answer, as API servers do together, with TLS or without.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from protokube.errors import ProviderError
from protokube.etcdclient.client import EtcdClient
from protokube.etcdclient.transport import Server, Tls
from tests.lab.cluster import LIMIT, Cluster
from tests.lab.trial import TrialNode, until

PREFIX = "load/"


class Writer:
    """Writes through the nodes of a cluster, from a thread of its own. All its keys begin with `prefix`."""

    def __init__(self, cluster: Cluster, *nodes: TrialNode, port: int = 4001, prefix: str = PREFIX) -> None:
        self._cluster, self._nodes, self._port = cluster, list(nodes), port
        self._prefix = prefix
        self._schemes = dict.fromkeys(nodes, "http")
        self._stop = threading.Event()
        self.kept: dict[str, str] = {}
        self.longest, self.during = 0.0, ""
        self._phase = "the start"
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def phase(self, name: str) -> None:
        """What happens from now on, for the report of the longest gap."""
        self._phase = name

    def more(self, count: int = 10) -> None:
        """Wait for so many further writes."""
        wanted = len(self.kept) + count
        until("writes go on", lambda: len(self.kept) >= wanted, LIMIT)

    def check(self, node: TrialNode) -> None:
        """Every acknowledged write is there; print the longest gap."""
        self.holds(node, dict(self.kept))  # the writer goes on
        print(f"longest gap between two of {len(self.kept)} writes: {self.longest:.2f} s, during {self.during}")

    def holds(self, node: TrialNode, kept: Mapping[str, str]) -> None:
        """These writes are there."""
        found = until("a quorum answers", lambda: self._found(node), LIMIT)
        lost = [key for key, value in kept.items() if found.get(key) != value]
        assert not lost, f"{len(lost)} of {len(kept)} acknowledged writes are lost: {lost[:5]}"

    def _found(self, node: TrialNode) -> Mapping[str, str] | None:
        """All that is there, as a quorum says; None while there is no answer."""
        try:
            return self._client(node).values(self._prefix)
        except ProviderError:
            self._turn(node)
            return None

    def _write(self) -> None:
        last, number = time.monotonic(), 0
        while not self._stop.is_set():
            number += 1
            if not self._put(f"{number:06}", f"v{number}"):
                continue
            now = time.monotonic()
            if now - last > self.longest:
                self.longest, self.during = now - last, self._phase
            last = now
            self._stop.wait(0.02)

    def _put(self, key: str, value: str) -> bool:
        for node in list(self._nodes):
            for _ in range(2):
                with suppress(ProviderError, AssertionError, FileNotFoundError):
                    self._client(node).put(self._prefix + key, value)
                    self.kept[key] = value
                    return True
                self._turn(node)
            self._nodes.append(self._nodes.pop(0))
        return False

    def _turn(self, node: TrialNode) -> None:
        self._schemes[node] = "https" if self._schemes[node] == "http" else "http"

    def _client(self, node: TrialNode) -> _Inside:
        files = node.root / "var/lib/protokube/pki/etcd-client"
        tls = Tls(files, "localhost") if self._schemes[node] == "https" else None
        return _Inside(self._cluster, node, Server(f"{self._schemes[node]}://127.0.0.1:{self._port}", tls))


class _Inside:
    """A client on a node."""

    def __init__(self, cluster: Cluster, node: TrialNode, server: Server) -> None:
        self._cluster, self._node = cluster, node
        self._client = EtcdClient(server, limit=2.0)

    def put(self, key: str, value: str) -> None:
        with self._cluster.inside(self._node):
            self._client.put(key, value)

    def values(self, prefix: str) -> Mapping[str, str]:
        with self._cluster.inside(self._node):
            return self._client.values(prefix)
