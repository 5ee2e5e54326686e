"""A network between a node and its hub that can be cut in the ways in which networks are."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

How = Literal["closed", "reset", "silent"]
"""`closed`: a goodbye of TCP's. `reset`: none. `silent`: nothing passes any more, and neither end is told."""


class Proxy:
    """Passes bytes on. `passed`: every byte that went by; `flip`: the next one is changed."""

    def __init__(self, port: int) -> None:
        self._hub = port
        self.port = 0
        self.passed = bytearray()
        self.flip = False
        self._links: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._silent: set[asyncio.StreamWriter] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        """The proxy, on a port of its own."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.gather(*(one.wait_closed() for one in self._writers), return_exceptions=True)

    def cut(self, how: How) -> int:
        """Cut every connection; how many there were."""
        links, self._links = self._links, []
        for pair in links:
            for writer in pair:
                if how == "silent":
                    self._silent.add(writer)
                elif writer.transport.is_closing():
                    pass
                elif how == "reset":
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                else:
                    writer.close()
        return len(links)

    def cut_somehow(self) -> int:
        """Cut them in one of the ways."""
        ways: tuple[How, ...] = ("closed", "reset", "silent")
        return self.cut(random.choice(ways))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._hub)
        except OSError:
            writer.close()
            return
        finally:
            self._writers.append(writer)
        self._writers.append(back)
        self._links.append((writer, back))
        for source, target in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pass(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                if target in self._silent:
                    continue
                self.passed += data
                if self.flip:
                    data, self.flip = data[:-1] + bytes((data[-1] ^ 1,)), False
                target.write(data)
                await target.drain()
        except ConnectionError:
            pass
        if target not in self._silent:
            target.close()
