"""A connection to the system bus by dbus-next, whose newest release needs two corrections."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from dbus_next.aio.message_bus import MessageBus


class Connection(MessageBus):
    """dbus-next 0.2.3, with two faults corrected: sockets that stay open, and a peer that hangs up early."""

    def __init__(self, address: str, lost: Callable[[Connection], None]) -> None:
        self._on_lost = lost
        super().__init__(bus_address=address)

    def _setup_socket(self) -> None:
        try:
            super()._setup_socket()  # type: ignore[no-untyped-call]
        except OSError:
            self._close_socket()
            raise

    async def _auth_readline(self) -> str:
        # The original spins for ever, without yielding, when the peer closes during authentication.
        line = b""
        while not line.endswith(b"\r\n"):
            byte = await self._loop.sock_recv(self._sock, 1)
            if not byte:
                raise EOFError("it closed the connection during authentication")
            line += byte
        return line[:-2].decode()

    def _finalize(self, err: Exception | None = None) -> None:
        if self._disconnected:
            return
        super()._finalize(err)  # type: ignore[no-untyped-call]
        if self._disconnect_future.done():
            self._disconnect_future.exception()  # it is never awaited
        self._close_socket()
        self._on_lost(self)

    def _close_socket(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()
        self._sock.close()

    def close(self) -> None:
        """End the connection now; calls in flight get no reply."""
        self._finalize(None)
