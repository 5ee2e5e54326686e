"""One node's connection at the hub: frames that wait for it, and how it is closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web

from protokube.hub.core.membership import Member
from protokube.hub.core.messages import FromHub, encode

WAITING = 10_000
"""Frames that may wait for a node to read them."""

log = logging.getLogger(__name__)


class Peer:
    """A connection. `serial`: of the certificate that it showed; `abort` ends it without a goodbye."""

    def __init__(self, ws: web.WebSocketResponse, member: Member, serial: str, abort: Callable[[], None]) -> None:
        self.ws = ws
        self._abort = abort
        self.node = member.node
        self.serial = serial
        self.ends = member.current.ends
        self.frames: asyncio.Queue[FromHub | None] = asyncio.Queue()
        self.closing: tuple[int, str] | None = None

    def put(self, frame: FromHub) -> None:
        """Send a frame, after those before. A node that says much and reads nothing loses its link."""
        if self.closing is None and self.frames.qsize() >= WAITING:
            log.warning("node %s: it reads nothing; its link is cut", self.node)
            self.close(1008, "it reads nothing")
            self._abort()  # what waits before the close is never read either
        elif self.closing is None:
            self.frames.put_nowait(frame)

    def close(self, code: int, reason: str) -> None:
        """Close the link, with its reason."""
        if self.closing is None:
            self.closing = (code, reason)
            self.frames.put_nowait(None)

    async def write(self) -> None:
        """Send what is put, until the link is to be closed."""
        while (frame := await self.frames.get()) is not None:
            try:
                await self.ws.send_str(encode(frame))
            except (ConnectionError, RuntimeError):  # aiohttp: a closing transport
                return
        assert self.closing is not None
        code, reason = self.closing
        await self.ws.close(code=code, message=reason.encode()[:120])
