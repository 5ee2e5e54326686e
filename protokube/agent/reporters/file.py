"""Reports to a directory: one JSON file a pod, so that people and scripts see what runs, and why not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from protokube.agent.core.model import Pod
from protokube.agent.core.pods import uid_of
from protokube.agent.files import sweep, write_atomically
from protokube.errors import explain


class FileReporter:
    """Keeps `<directory>/<uid>.json` as the pod's newest report."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def pod(self, pod: Pod) -> None:
        """Write the pod's report."""
        await asyncio.to_thread(self._write, pod)

    async def gone(self, pod: Pod) -> None:
        """Remove the pod's report."""
        path = self._path(pod)
        with explain(f"remove {path}"):
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def reported(self) -> Sequence[Pod]:
        """The reports that are there. One that can't be read is removed: it is written again."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> list[Pod]:
        found = []
        with explain(f"read {self._directory}"):
            sweep(self._directory)
            for path in self._directory.glob("[!.]*.json"):
                try:
                    pod: Pod = json.loads(path.read_bytes())
                    uid_of(pod)
                except (ValueError, KeyError, TypeError):
                    path.unlink()
                else:
                    found.append(pod)
        return found

    def _write(self, pod: Pod) -> None:
        path = self._path(pod)
        with explain(f"write {path}"):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Lost in a power cut, it is written again: that costs nothing.
            write_atomically(path, json.dumps(pod, indent=1).encode(), durable=False)

    def _path(self, pod: Pod) -> Path:
        return self._directory / f"{uid_of(pod)}.json"
