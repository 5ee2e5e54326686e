"""The last snapshot, given once more with the tags that were written since: a successful write needs no reading."""

from __future__ import annotations

import threading
import time

from msgspec.structs import replace

from protokube.core.model import Unknown
from protokube.core.volumes.model import CloudSnapshot

KNOWN_FOR = 5.0
"""Seconds for which facts that our own writes can't have changed aren't asked for again right after them."""


class LastSnapshot:
    """Holds the last snapshot without unknown parts. Thread-safe.

    Invariant: between the kept snapshot and its use only tags were written, and no snapshot is used twice.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: CloudSnapshot | None = None
        self._at = 0.0
        self._tagged = False
        self._writes = 0

    def begin(self) -> tuple[CloudSnapshot | None, int]:
        """The snapshot that can be used instead of asking, or None; and the writes so far, for `keep`."""
        with self._lock:
            young = self._tagged and time.monotonic() - self._at < KNOWN_FOR
            told = self._kept if young else None
            self._kept, self._tagged = None, False
            return told, self._writes

    def keep(self, told: CloudSnapshot, writes: int) -> None:
        """Keep a snapshot that was just taken, unless a write was made meanwhile."""
        with self._lock:
            if writes == self._writes and not any(
                isinstance(part, Unknown) for part in (told.instance, told.volumes, told.peers)
            ):
                self._kept, self._at = told, time.monotonic()

    def tagged(self, volume_id: str, key: str, value: str) -> None:
        """Note that a tag was written."""
        with self._lock:
            self._writes += 1
            if self._kept is None or isinstance(self._kept.volumes, Unknown):
                return
            volumes = tuple(
                replace(one, tags={**one.tags, key: value}) if one.id == volume_id else one
                for one in self._kept.volumes
            )
            self._kept, self._tagged = replace(self._kept, volumes=volumes), True

    def forget(self) -> None:
        """Note that another write was made, or may have been."""
        with self._lock:
            self._writes += 1
            self._kept, self._tagged = None, False
