"""The main thread's event loop, for the adapters that live in it: it need not run before one of them is asked."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


class EventLoop:
    """A loop that runs later, or already does."""

    def __init__(self) -> None:
        self._running: Future[asyncio.AbstractEventLoop] = Future()
        self._wanted = threading.Event()

    def runs(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say that it runs."""
        self._running.set_result(loop)

    def get(self) -> asyncio.AbstractEventLoop:
        """The loop; waits, in another thread than its own, until it runs."""
        self._wanted.set()
        return self._running.result()

    def wait_until_wanted(self, work: Future[Any], limit: float | None) -> None:
        """Wait until somebody wants the loop, the work has ended, or so many seconds have passed (None: no limit)."""
        work.add_done_callback(lambda _: self._wanted.set())
        self._wanted.wait(limit)
