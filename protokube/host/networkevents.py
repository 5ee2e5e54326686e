"""Events of the node's addresses. The daemon alone watches them, so that nothing else loads asyncio for it."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from protokube.errors import ProviderError
from protokube.host.network import read_candidates

_DEBOUNCE = 0.2  # seconds; containers come and go in bursts


async def watch_addresses(wake: Callable[[str], None], *, debounce: float = _DEBOUNCE) -> None:
    """Call `wake` with a reason when the addresses that the node may be known by change. Runs until it is cancelled.

    Only the caller knows which of them is in use, so a floating address wakes it as well. Events of any interface
    only cause a look, and only a difference of the addresses wakes: a burst of container interfaces doesn't. After a
    lost event (the kernel's buffer overran) the look at the next one sees both changes.
    """
    from protokube.host import rtnetlink  # beside the first reconcile, not before it

    loop = asyncio.get_running_loop()
    try:
        with rtnetlink.changes() as link:
            known = _texts()
            while True:
                await _event(loop, link)
                await asyncio.sleep(debounce)
                _drain(link)
                now = _texts()
                if now != known:
                    wake(f"addresses: {', '.join(known) or 'none'} → {', '.join(now) or 'none'}")
                    known = now
    except OSError as error:
        raise ProviderError(f"rtnetlink: watching addresses failed: {error}") from error


def _texts() -> tuple[str, ...]:
    return tuple(address.text for address in read_candidates())


async def _event(loop: asyncio.AbstractEventLoop, link: socket.socket) -> None:
    with _overrun_is_an_event():
        await loop.sock_recv(link, 1)


def _drain(link: socket.socket) -> None:
    """Drop all events that have come: the look that follows sees their effect."""
    with suppress(BlockingIOError):
        while True:
            with _overrun_is_an_event():
                link.recv(1)


@contextmanager
def _overrun_is_an_event() -> Iterator[None]:
    """The kernel says once that it had to drop events (ENOBUFS), and goes on with the next ones."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
