"""Calls side by side, in daemon threads: one that hangs for ever must not keep the program from ending.

Threads that have nothing to do wait for the next call, so a settled round starts none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")

_calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
_idle = threading.Semaphore(0)


def start(name: str, call: Callable[[], T]) -> Future[T]:
    """Start a call in a thread of its own; its result or its error is the future's."""
    future: Future[T] = Future()

    def run() -> None:
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
