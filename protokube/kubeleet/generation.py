"""The highest generation that Redis has told a worker, kept over restarts: a Redis that tells less went back."""

from __future__ import annotations

import logging
from pathlib import Path

from protokube.agent.files import write_atomically

log = logging.getLogger(__name__)


class Generation:
    """`path`: its file. It isn't brought to the disk at once: what a power cut takes of it are seconds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writable = True
        try:
            self.highest = int(path.read_text(encoding="ascii"))
        except FileNotFoundError:
            self.highest = 0
        except (OSError, ValueError) as error:
            log.warning("%s: it can't be read: %s; a Redis that went back meanwhile isn't noticed", path, error)
            self.highest = 0

    def grow(self, told: int) -> None:
        """Take in what Redis has told. A file that can't be written is said, and keeps no heartbeat back."""
        if told <= self.highest:
            return
        self.highest = told
        try:
            write_atomically(self._path, str(told).encode(), durable=False)
            self._writable = True
        except OSError as error:
            if self._writable:
                log.warning("%s: it can't be written: %s; it counts until a restart", self._path, error)
            self._writable = False
