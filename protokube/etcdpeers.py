"""Asks etcd's peer port who the members of its cluster are: `GET <peer url>/members`, with TLS where the URL says so.

One limit holds for the whole exchange. Names are never resolved: callers give URLs with IP addresses, since the
names may not exist yet.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event, Timer
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from msgspec import Meta, MsgspecError, Struct
from msgspec.json import decode

from protokube.core.etcd.model import EtcdPeerMember
from protokube.core.model import MIB
from protokube.errors import ProviderError

if TYPE_CHECKING:
    from ssl import SSLSocket

log = logging.getLogger("protokube")

LIMIT = 2.0
"""Seconds, from connecting to the last byte."""

_ANSWER_LIMIT = MIB


class _Listed(Struct):
    """A member as etcd writes it (etcd's membership.Member); later versions may add fields."""

    peerURLs: Annotated[tuple[str, ...], Meta(min_length=1)]  # noqa: N815 - etcd's own spelling
    name: str = ""
    clientURLs: tuple[str, ...] | None = None  # noqa: N815 - etcd's own spelling


_Answer = Annotated[list[_Listed], Meta(min_length=1)]


class PeerTls(Struct, frozen=True):
    """What TLS needs: our certificate's directory, and the name that every peer's certificate has."""

    directory: Path
    name: str


class HttpEtcdPeers:
    """The peers of one etcd cluster. `limit` is in seconds. Without `tls` only http URLs can be asked."""

    def __init__(self, limit: float = LIMIT, tls: PeerTls | None = None) -> None:
        self._limit = limit
        self._tls = tls

    def members(self, peer_url: str) -> Sequence[EtcdPeerMember]:
        """The peer's member list, in its order. A member that was added and never started has no client URLs, and no
        name."""
        late = Event()
        try:
            members = parse_members(self._get(peer_url, late))
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            slow = late.is_set() or isinstance(error, TimeoutError)
            reason = f"no answer within {self._limit:g} s" if slow else str(error) or type(error).__name__
            log.debug("etcd peer %s: %s", peer_url, reason)
            raise ProviderError(f"{peer_url}: {reason}") from error
        log.debug("etcd peer %s: members %s", peer_url, ", ".join(one.name or "(not started)" for one in members))
        return members

    def _get(self, url: str, late: Event) -> bytes:
        """The body of the answer to GET <url>/members."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port is None:
            raise ValueError("not an http or https URL with a port")
        if parts.scheme == "https" and self._tls is None:
            raise ValueError("this node has no certificate for its peers yet")
        connection = HTTPConnection(parts.hostname, parts.port, timeout=self._limit)
        try:
            connection.connect()
            secured = None
            if parts.scheme == "https" and self._tls is not None:
                secured = connection.sock = _secured(connection.sock, self._tls)
            with _ended_after(self._limit, connection.sock, late):
                if secured is not None:
                    secured.do_handshake()
                connection.request("GET", f"{parts.path.rstrip('/')}/members", headers={"Connection": "close"})
                response = connection.getresponse()
                if response.status != 200:
                    raise ValueError(f"HTTP {response.status} {response.reason}")
                # A list above 2 KiB comes in chunks, without its length (Go's net/http).
                body = response.read(_ANSWER_LIMIT + 1)
        finally:
            connection.close()
        if len(body) > _ANSWER_LIMIT:
            raise ValueError(f"an answer of more than {_ANSWER_LIMIT} bytes")
        return body


def _secured(plain: socket.socket, tls: PeerTls) -> SSLSocket:
    """The connection with TLS, before its handshake. The peer proves the name that all peers share: its address is in
    no certificate."""
    import ssl  # only nodes whose etcd has TLS pay for it

    context = ssl.create_default_context(cafile=str(tls.directory / "ca.crt"))
    context.load_cert_chain(tls.directory / "tls.crt", tls.directory / "tls.key")
    return context.wrap_socket(plain, server_hostname=tls.name, do_handshake_on_connect=False)


@contextmanager
def _ended_after(seconds: float, connected: socket.socket, late: Event) -> Iterator[None]:
    """End a connection after some seconds, however many bytes still trickle in."""

    def end() -> None:
        late.set()
        # TLS's own shutdown would take the connection's state from under the thread that reads.
        socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def parse_members(body: bytes) -> Sequence[EtcdPeerMember]:
    """etcd's JSON as values. Raises ValueError when it is not a list of members."""
    try:
        listed = decode(body, type=_Answer)
    except MsgspecError as error:
        raise ValueError(f"not a list of members: {error}") from error
    return [EtcdPeerMember(one.name, one.peerURLs, one.clientURLs or ()) for one in listed]
