"""A provider for workers that tests kill: its containers are files, and outlive it as real ones outlive an agent.

`ledger` in its folder tells when each one started and stopped. Images that begin with `broken` never start. While a
file `hold-before` is there no creation begins; with `hold-after` none returns.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from protokube.agent.core.model import Pod, PodStatus
from protokube.agent.core.pods import key_of, uid_of
from protokube.agent.ports import NotFoundError
from protokube.errors import ProviderError

RUNNING = {"phase": "Running", "containerStatuses": [{"name": "main", "state": {"running": {}}}]}


class Entry(Struct, frozen=True):
    """A line of a ledger. `at`: seconds since the epoch."""

    at: float
    what: str
    name: str


class LedgerProvider:
    """Its folder is given as --provider-config."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        (self._folder / "containers").mkdir(parents=True, exist_ok=True)

    async def create_pod(self, pod: Pod) -> None:
        while (self._folder / "hold-before").exists():
            await asyncio.sleep(0.05)
        if pod["spec"]["containers"][0]["image"].startswith("broken"):
            self._note("try", pod)
            raise ProviderError("it never starts")
        path = self._path(uid_of(pod))
        if not path.exists():
            self._note("start", pod)
            path.with_suffix(".new").write_text(json.dumps(pod))
            path.with_suffix(".new").rename(path)
        while (self._folder / "hold-after").exists():
            await asyncio.sleep(0.05)

    async def update_pod(self, pod: Pod) -> None:
        self._path(uid_of(pod)).write_text(json.dumps(pod))

    async def delete_pod(self, pod: Pod) -> None:
        path = self._path(uid_of(pod))
        if not path.exists():
            raise NotFoundError(uid_of(pod))
        path.unlink()
        self._note("stop", pod)

    async def get_pod(self, namespace: str, name: str) -> Pod | None:
        return next((pod for pod in await self.get_pods() if key_of(pod) == (namespace, name)), None)

    async def get_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        pod = await self.get_pod(namespace, name)
        return None if pod is None else pod["status"]

    async def get_pods(self) -> Sequence[Pod]:
        return [{**pod, "status": RUNNING} for pod in pods_in(self._folder)]

    def _path(self, uid: str) -> Path:
        return self._folder / "containers" / f"{uid}.json"

    def _note(self, what: str, pod: Pod) -> None:
        with (self._folder / "ledger").open("a") as ledger:
            ledger.write(f"{time.time()} {what} {pod['metadata']['name']}\n")


def pods_in(folder: Path) -> list[Pod]:
    """What runs in a provider's folder."""
    found = []
    for path in (folder / "containers").glob("*.json"):
        try:
            found.append(json.loads(path.read_text()))
        except FileNotFoundError:
            continue  # it has ended meanwhile
    return found


def entries(folder: Path) -> list[Entry]:
    """What a provider did."""
    path = folder / "ledger"
    lines = path.read_text().splitlines() if path.exists() else []
    return [Entry(float(at), what, name) for at, what, name in map(str.split, lines)]
