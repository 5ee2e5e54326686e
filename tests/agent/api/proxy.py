"""A relay between an agent and its API server that can be cut, or cut after so many bytes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

from msgspec.structs import replace

from protokube.agent.http.kubeconfig import KubeConfig


class Proxy:
    """Listens on a port of loopback. While `down`, every connection is closed at once."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._scheme = parts.scheme
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.down = False

    async def start(self) -> Self:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def through(self, config: KubeConfig) -> KubeConfig:
        """The same API server, by way of this proxy."""
        return replace(config, server=f"{self._scheme}://127.0.0.1:{self.port}")

    def cut(self) -> None:
        """Cut every connection that there is."""
        for writer in self._writers:
            if writer.transport is not None:
                writer.transport.abort()

    def stop(self) -> None:
        """Let nothing through any more."""
        self.down = True
        self.cut()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.CancelledError):  # close() cancels; nobody else awaits it
                other_reader, other = await asyncio.open_connection(*self._target)
                self._writers.add(other)
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(_copy(reader, other))
                        group.create_task(_copy(other_reader, writer))
                finally:
                    other.close()
                    self._writers.discard(other)
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        writer.write_eof() if writer.can_write_eof() else writer.close()
