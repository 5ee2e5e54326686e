"""A client that writes to the API all the time: what was acknowledged, and the longest gap between two answers.

    with ApiWriter(cluster, a, b, c) as writer:
        writer.phase("a loses power")
        …
        writer.more()
        writer.check(b)

It asks one API server after the other, and goes on with the next one where one doesn't answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from protokube.errors import ProviderError
from tests.lab.kube_cluster import KubeCluster
from tests.lab.kube_node import KubeNode

PATH = "/api/v1/namespaces/default/configmaps"
_LABEL = {"load": "yes"}
_PAUSE = 0.1
"""Seconds between two writes: a steady load that leaves a small machine time for the cluster itself."""


class ApiWriter:
    """Writes ConfigMaps through the API servers of these nodes, from a thread of its own."""

    def __init__(self, cluster: KubeCluster, *nodes: KubeNode) -> None:
        self._cluster, self._nodes = cluster, list(nodes)
        self._stop = threading.Event()
        self.kept: dict[str, str] = {}
        self.gaps: dict[str, float] = {}
        self._phase = "the start"
        self._thread = threading.Thread(target=self._write, name="writer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        print("longest gaps between two writes:", {name: round(gap, 1) for name, gap in self.gaps.items()})

    def phase(self, name: str) -> None:
        """What happens from now on, for the report of the gaps."""
        self._phase = name

    def through(self, *nodes: KubeNode) -> None:
        """Write through these nodes from now on."""
        self._nodes = list(nodes)

    def more(self, count: int = 10) -> None:
        """Wait for so many further writes."""
        wanted = len(self.kept) + count
        self._cluster.until("writes go on", self._nodes[0], lambda: len(self.kept) >= wanted)

    def check(self, node: KubeNode) -> None:
        """Every acknowledged write is there, as the API server of a node reads it from a quorum."""
        kept = dict(self.kept)  # the writer goes on
        found = self._cluster.until("the API is read", node, lambda: self._found(node))
        lost = [key for key, value in kept.items() if found.get(key) != value]
        assert not lost, f"{len(lost)} of {len(kept)} acknowledged writes are lost: {lost[:5]}"

    def _found(self, node: KubeNode) -> Mapping[str, str] | None:
        with suppress(ProviderError, OSError), self._cluster.inside(node):
            listed = self._cluster.api(node).list(PATH, labelSelector="load=yes")
            return {one["metadata"]["name"]: one["data"]["value"] for one in listed}
        return None

    def _write(self) -> None:
        last, number = time.monotonic(), 0
        while not self._stop.is_set():
            number += 1
            written = self._put(f"load-{number:06}", f"v{number}")
            now = time.monotonic()
            self.gaps[self._phase] = max(self.gaps.get(self._phase, 0.0), now - last)
            if written:
                last = now
                self._stop.wait(_PAUSE)

    def _put(self, name: str, value: str) -> bool:
        """Whether one of the nodes has acknowledged the write. One that didn't answer may have done it as well."""
        nodes = list(self._nodes)
        for at, node in enumerate(nodes):
            key = f"{name}-{at}"
            manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": key, "labels": _LABEL}}
            # A node that is switched off has no files, and no network namespace that answers.
            with suppress(ProviderError, OSError), self._cluster.inside(node):
                self._cluster.api(node).create(PATH, {**manifest, "data": {"value": value}})
                self.kept[key] = value
                return True
        self._stop.wait(_PAUSE)
        return False
