"""Reconciles in threads, one after the other. The first one begins before the run loop is even loaded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from protokube.config.load import Settings
from protokube.config.wiring import Wired
from protokube.errors import ProviderError
from protokube.observe.observer import Observer
from protokube.reconcile import Cause, Memory, reconcile
from protokube.report.model import Report
from protokube.together import start

log = logging.getLogger("protokube")


class Reconciles:
    """Runs reconciles one after the other in threads, and keeps the memory between them."""

    def __init__(
        self, settings: Settings, wired: Wired, started: float, memory: Memory, wake: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._wired = wired
        self._observer = Observer(
            wired.config, wired.readers, started=started, reading=memory.reading, wake=wake, alive=self._alive
        )
        self.memory = memory
        self.started = started
        self.stopping = False
        self.busy = False
        self.last_sign = time.monotonic()

    def _alive(self) -> bool:
        self.last_sign = time.monotonic()
        return self.stopping

    def _recover(self) -> None:
        """Mend a file that a crash left half written, which no plan would notice.

        A failure is only logged, since the reconcile meets it as well.
        """
        try:
            if self._wired.dns is not None:
                self._wired.dns.recover()
        except ProviderError as error:
            log.warning("%s", error)

    def begin(self, cause: Cause = Cause.CLOCK) -> Future[Report]:
        """Start one reconcile in a thread of its own. The future holds its report, or the bug that ended it."""
        self.busy = True
        self._alive()
        future = start("reconcile", partial(self._work, cause))
        future.add_done_callback(self._ended)
        return future

    def _work(self, cause: Cause) -> Report:
        if self.memory.last is None:
            self._recover()
        dns = self._wired.readers.dns
        return reconcile(
            self._observer,
            self._wired.writers,
            self.memory,
            remote_cloud=self._wired.readers.cloud.remote,
            records_every=1 if dns is not None and dns.local else self._settings.records_every,
            cause=cause,
            stop=self._alive,
        )

    def _ended(self, _: Future[Report]) -> None:
        self.busy = False
