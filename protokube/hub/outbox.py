"""Frames on their way to the hub. One that doesn't read them can't fill the node's memory."""

from __future__ import annotations

import asyncio

from protokube.hub.core.messages import FromNode

MOST = 10_000
"""Frames that wait on one link."""


class Outbox:
    """The frames of one link. One too many ends it, once those before it are sent: the next one goes on there."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._frames: asyncio.Queue[FromNode] = asyncio.Queue()
        self._full = False

    def put(self, frame: FromNode) -> None:
        """Put a frame behind the others. After one too many none follows: events are in order, without a gap."""
        self._full = self._full or self._frames.qsize() >= self._most
        if not self._full:
            self._frames.put_nowait(frame)

    async def get(self) -> FromNode | None:
        """The next frame; None when the link has to end."""
        if self._full and self._frames.empty():
            return None
        return await self._frames.get()
