"""Calls side by side, in daemon threads: one that hangs for ever must not keep the program from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


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

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
