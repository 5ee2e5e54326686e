"""The event loop that runs later: whoever wants it waits for it, and is waited for."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future

from protokube.eventloop import EventLoop

LONG = 120.0


def test_the_wait_ends_when_somebody_wants_the_loop() -> None:
    loop, work, got = EventLoop(), Future[None](), Future[asyncio.AbstractEventLoop]()
    wanting = threading.Thread(target=lambda: got.set_result(loop.get()), daemon=True)
    wanting.start()
    loop.wait_until_wanted(work, LONG)
    assert not work.done() and not got.done()

    async def run() -> None:
        loop.runs(asyncio.get_running_loop())
        assert await asyncio.wrap_future(got) is asyncio.get_running_loop()

    asyncio.run(run())


def test_the_wait_ends_with_the_work_even_with_its_failure() -> None:
    loop, work = EventLoop(), Future[None]()
    threading.Timer(0.05, work.set_exception, [ValueError()]).start()
    loop.wait_until_wanted(work, LONG)
    assert work.done()


def test_the_wait_is_no_longer_than_its_limit() -> None:
    before = time.monotonic()
    EventLoop().wait_until_wanted(Future[None](), 0.01)
    assert time.monotonic() - before < LONG
