"""A channel from the web, read beside everything else: its server may be slow, and nothing waits for it.

A look takes the last answer. One that is old is asked for anew, and the next look has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Lock

from protokube.core.model import Unknown
from protokube.core.objects.model import ChannelSource, Manifest
from protokube.errors import ProviderError
from protokube.kubeapi.sources import read_manifests
from protokube.together import start

READ_AGAIN = 60.0
"""Seconds after the end of a reading before which the channel isn't read again."""

PATIENCE = 2.0
"""Seconds for which a look waits for the first answer of all."""

Answer = tuple[Manifest, ...] | Unknown


class WebChannel:
    """A channel at an https URL. `changed` is called when a reading has found something else than the last one, and
    the look that began it is over. `now`: a clock that only goes forward."""

    def __init__(
        self, source: ChannelSource, changed: Callable[[], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._source, self._changed, self._now = source, changed, now
        self._lock = Lock()
        self._reading: Future[None] | None = None
        self._answer: Answer | None = None
        self._ended = 0.0

    def last(self) -> Answer:
        """The objects as they were last read. Unknown when that failed, or while nothing was read yet."""
        reading = self.begin()
        if reading is not None and self._answer is None:
            wait([reading], PATIENCE)
        answer = self._answer
        return Unknown(f"{self._source.source} is being read") if answer is None else answer

    def begin(self) -> Future[None] | None:
        """Begin a reading, if one is due; the one that is under way."""
        with self._lock:
            under_way = self._reading is not None and not self._reading.done()
            if not under_way and (self._answer is None or self._now() - self._ended >= READ_AGAIN):
                self._reading = start(f"read {self._source.source}", self._read)
            return self._reading

    def _read(self) -> None:
        answer: Answer
        try:
            answer = read_manifests(self._source)
        except ProviderError as error:
            answer = Unknown(str(error))
        with self._lock:
            news, self._answer, self._ended = answer != self._answer, answer, self._now()
        if news:
            self._changed()
