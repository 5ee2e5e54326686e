"""A server that answers with given bytes, and a client that sends them: what aiohttp would never say itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from protokube.agent.http.webconfig import WebConfig
from protokube.agent.providers.web import WebProvider

CUT = b""
"""An answer that never comes: the connection is closed at once."""


class RawServer:
    """Answers the requests in turn, the last answer again and again. `seen`: each request's head and body."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self._answers = list(answers)
        self.seen: list[tuple[str, bytes]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"(?im)^content-length: *(\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        self.seen.append((head, body))
        writer.write(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])
        await writer.drain()
        writer.close()


def answer(status: str, body: bytes = b"", kind: str = "application/json") -> bytes:
    """The bytes of an answer; `status` is what stands behind the version."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def asked(
    *answers: bytes, user: str | None = None
) -> AsyncIterator[tuple[WebProvider, RawServer, list[float]]]:
    """Our client before a server of bytes, and the pauses that the client made."""
    raw = RawServer(answers)
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    raw.port = server.sockets[0].getsockname()[1]
    provider = WebProvider(WebConfig(f"http://127.0.0.1:{raw.port}", user), pause)
    try:
        yield provider, raw, pauses
    finally:
        await provider.close()
        server.close()
        await server.wait_closed()


async def said(port: int, request: bytes) -> tuple[str, bytes]:
    """What a server answers to these bytes: its status line without the version, and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = re.search(r"(?im)^content-length: *(\d+)", head)
    body = await reader.readexactly(int(length[1])) if length else await _chunks(reader)
    writer.close()
    return head.partition("\r\n")[0].removeprefix("HTTP/1.1 "), body


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    content = b""
    while size := int(await reader.readline(), 16):
        content += (await reader.readexactly(size + 2))[:-2]
    return content
