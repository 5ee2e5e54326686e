"""Asks etcd's peer port who the members of its cluster are: `GET <peer url>/members`.

One limit holds for the whole exchange. Nothing here resolves names: callers give URLs with IP addresses, since the
names may not exist yet.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from urllib.parse import urlsplit

from protokube.core.etcd.model import EtcdPeerMember
from protokube.core.model import MIB
from protokube.errors import ProviderError

log = logging.getLogger("protokube")

LIMIT = 2.0
"""Seconds, from connecting to the last byte."""

_ANSWER_LIMIT = MIB


class HttpEtcdPeers:
    """Peers without TLS; implements `ports.EtcdPeers`. `limit` is in seconds."""

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit

    def members(self, peer_url: str) -> Sequence[EtcdPeerMember]:
        """The peer's member list, in its order. A member that was added and never started has no client URLs, and no
        name."""
        members = asyncio.run(self._ask(peer_url))
        log.debug("etcd peer %s: members %s", peer_url, ", ".join(one.name or "(not started)" for one in members))
        return members

    async def _ask(self, url: str) -> Sequence[EtcdPeerMember]:
        try:
            async with asyncio.timeout(self._limit):
                return parse_members(await _get(url))
        except TimeoutError as error:
            raise _failed(url, f"no answer within {self._limit:g} s") from error
        except (OSError, HTTPException, ValueError, EOFError, asyncio.LimitOverrunError, RecursionError) as error:
            raise _failed(url, str(error) or type(error).__name__) from error


def _failed(url: str, reason: str) -> ProviderError:
    log.debug("etcd peer %s: %s", url, reason)
    return ProviderError(f"{url}: {reason}")


async def _get(url: str) -> bytes:
    """The body of the answer to GET <url>/members."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.port is None:
        raise ValueError("not an http URL with a port")
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(f"GET {parts.path.rstrip('/')}/members HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
        await writer.drain()
        length = _length(await reader.readuntil(b"\r\n\r\n"))
        # Never read to the end of file: etcd's peer port may leave the connection open for another 5 s.
        return await reader.readexactly(length)
    finally:
        writer.close()


class _Received:
    """What http.client needs of a socket: the bytes that came."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> BytesIO:
        """The bytes as a file."""
        return BytesIO(self._data)


def _length(head: bytes) -> int:
    """How many bytes follow the head of a good answer."""
    response = HTTPResponse(_Received(head))  # type: ignore[arg-type]
    with response:
        response.begin()
        if response.status != 200:
            raise ValueError(f"HTTP {response.status} {response.reason}")
        if response.length is None or response.length > _ANSWER_LIMIT:
            raise ValueError(
                f"an answer of {response.length or 'unknown'} bytes, where {_ANSWER_LIMIT} at most was expected"
            )
        return response.length


def parse_members(body: bytes) -> Sequence[EtcdPeerMember]:
    """etcd's JSON as values; ValueError when it is anything else than a list of members, RecursionError when it is
    nested too deep to be read."""
    listed = json.loads(body)
    if not isinstance(listed, list) or not listed:
        raise ValueError("not a list of members")
    return [_member(item) for item in listed]


def _member(item: object) -> EtcdPeerMember:
    if not isinstance(item, dict):
        raise ValueError(f"a member that is no object: {item!r}")
    name = item.get("name", "")
    peers, clients = item.get("peerURLs"), item.get("clientURLs") or []
    if not isinstance(name, str) or not _strings(peers) or not peers or not _strings(clients):
        raise ValueError(f"a member that can't be understood: {item!r}")
    return EtcdPeerMember(name, tuple(peers), tuple(clients))


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
