"""What is kept of each pod on the disk, so that pods go on when the agent was killed or the machine rebooted.

One file a pod, `<uid>.json`, written before its first container and removed after its last one.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from protokube.agent.core.lifecycle import Ending
from protokube.agent.core.model import Json, Pod, PodStatus
from protokube.agent.core.names import is_uid
from protokube.agent.files import sweep, sync_directory, write_atomically
from protokube.errors import ProviderError, explain


class Record(Struct, frozen=True):
    """A pod that was asked for.

    `boot`: the boot that the following belong to. `attempts`: the last attempt of each container, over all boots.
    `floor`: those of earlier boots; their containers are history. `since`: boot time of the pod's start in that boot;
    `started_at` in seconds since the epoch. `begun`: the main containers were started in this boot. `final`: the
    status of a pod that has ended.
    """

    pod: Pod
    boot: str
    since: float
    started_at: float
    attempts: dict[str, int] = {}
    floor: dict[str, int] = {}
    begun: bool = False
    ending: Ending | None = None
    failed: str | None = None
    final: PodStatus | None = None


class Records:
    """The records of one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def load(self) -> dict[str, Record]:
        """Every record by UID. Raises ProviderError for one that can't be read: it isn't known what runs then."""
        found = {}
        with explain(f"list {self.directory}"):
            if not self.directory.exists():
                return {}
            sweep(self.directory)
            paths = sorted(self.directory.glob("[!.]*.json"))
        for path in paths:
            with explain(f"read {path}"):
                content = path.read_bytes()
            try:
                record = msgspec.json.decode(content, type=Record)
                uid = str(record.pod["metadata"]["uid"])
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError) as error:
                raise ProviderError(
                    f"{path}: it can't be read: {error}; see that its pod's containers have ended, then remove it"
                ) from error
            if not is_uid(uid) or path.stem != uid:
                raise ProviderError(f"{path}: it holds pod {uid!r}, another one than its name says; move it away")
            found[uid] = record
        return found

    def save(self, record: Record) -> None:
        """Write a record to the disk. Raises ProviderError."""
        path = self._path(record.pod)
        with explain(f"write {path}"):
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(path, msgspec.json.encode(record))

    def remove(self, record: Record) -> None:
        """Remove a record. Raises ProviderError."""
        path = self._path(record.pod)
        with explain(f"remove {path}"):
            path.unlink(missing_ok=True)
            sync_directory(self.directory)

    def _path(self, pod: Json) -> Path:
        return self.directory / f"{pod['metadata']['uid']}.json"
