"""Calls side by side, in daemon threads: one that hangs for ever keeps neither a reconcile nor the program from
ending.

Idle threads wait for the next call, so that a converged reconcile starts none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Generic, TypeVar

from protokube.errors import OutcomeUnknownError

T = TypeVar("T")

log = logging.getLogger("protokube")

SAY_AT = (5.0, 15.0, 30.0, 60.0)
"""Seconds after which it is said what is still waited for: nothing hangs silently."""

_calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
_idle = threading.Semaphore(0)


def start(name: str, call: Callable[[], T]) -> Future[T]:
    """Start a call in a thread of its own; the future holds its result or its error."""
    future: Future[T] = Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - handed whole to whoever asks the future
            future.set_exception(error)
        else:
            future.set_result(result)

    _calls.put(run)
    if not _idle.acquire(blocking=False):
        threading.Thread(target=_work, name=name, daemon=True).start()
    return future


def _work() -> None:
    while True:
        _calls.get()()
        _idle.release()


class Limited(Generic[T]):
    """Runs calls side by side, each with a limit in seconds; one that hangs is left behind and remembered.

    `what` is the verb that messages put before a key.
    """

    def __init__(self, limit: float, what: str) -> None:
        self._limit = limit
        self._what = what
        self._hanging: dict[str, Future[T]] = {}
        self._lock = threading.Lock()
        """Reads of two configurations may run side by side: the slow ones outlive their reconcile."""

    def run(self, calls: Mapping[str, Callable[[], T]]) -> dict[str, Future[T]]:
        """Run the calls, and return a done future for each key. That of a hanging call has OutcomeUnknownError.

        No call is made for a key while an earlier one hangs.
        """
        results: dict[str, Future[T]] = {}
        begun: dict[str, Future[T]] = {}
        with self._lock:
            for key, call in calls.items():
                if key in self._hanging and not self._hanging[key].done():
                    results[key] = _late(f"{self._what} {key} still hangs, since an earlier time")
                else:
                    begun[key] = self._hanging[key] = start(f"{self._what} {key}", call)
        self._await(begun)
        for key, future in begun.items():
            if future.done():
                results[key] = future
            else:
                results[key] = _late(f"{self._what} {key} did not end within {self._limit:g} s")
        return results

    def hanging(self) -> list[str]:
        """What still hangs, for people."""
        with self._lock:
            return sorted(f"{self._what} {key}" for key, future in self._hanging.items() if not future.done())

    def _await(self, begun: Mapping[str, Future[T]]) -> None:
        """Wait until all calls have ended, or the limit is reached."""
        began = time.monotonic()
        for seconds in (*(at for at in SAY_AT if at < self._limit), self._limit):
            wait(begun.values(), timeout=max(0.0, began + seconds - time.monotonic()))
            late = sorted(key for key, future in begun.items() if not future.done())
            if not late:
                return
            if seconds < self._limit:
                say_waiting(f"{self._what} {', '.join(late)}", seconds, self._limit)


def say_waiting(what: str, seconds: float, limit: float) -> None:
    """Tell a person what is waited for."""
    log.warning("%s: no answer for %g s; it is left alone after %g s", what, seconds, limit)


def _late(reason: str) -> Future[T]:
    future: Future[T] = Future()
    future.set_exception(OutcomeUnknownError(reason))
    return future
