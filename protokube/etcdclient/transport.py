"""One HTTP exchange with an etcd, with TLS where the URL says so, and with one limit for the whole of it.

Names in URLs are never resolved by the peers' callers: they give addresses, since the names may not exist yet. So the
name that the server's certificate must have is given beside the URL.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from threading import Event, Timer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct

from protokube.errors import NotListeningError, OutcomeUnknownError, ProviderError

if TYPE_CHECKING:
    from ssl import SSLContext


class Tls(Struct, frozen=True):
    """What TLS needs: the directory of our certificate (tls.crt, tls.key, ca.crt), and a name or an address that the
    server's certificate must have."""

    directory: Path
    name: str


class Server(Struct, frozen=True):
    """An etcd port: its URL, and how to speak TLS with it. Without `tls` only an http URL can be asked."""

    url: str
    tls: Tls | None = None


class Request(Struct, frozen=True):
    """A request; it is a POST when it has a body.

    `limit`: seconds from connecting to the last byte. `idle`: seconds between two bytes; the limit where it is None.
    `changes`: it changes something, so that its outcome is unknown when no answer comes.
    """

    path: str
    body: bytes | None = None
    limit: float = 2.0
    idle: float | None = None
    changes: bool = False


@contextmanager
def answer(server: Server, request: Request) -> Iterator[HTTPResponse]:
    """Send a request, and give its answer to read, whatever its status is. All ends with the block.

    Raises ProviderError when no whole answer comes, reading in the block included; NotListeningError when nothing
    listens there; OutcomeUnknownError when a request
    that changes something may have been carried out.
    """
    late, sent = Event(), Event()
    try:
        with _connected(server, request, late) as connection:
            method = "GET" if request.body is None else "POST"
            path = urlsplit(server.url).path.rstrip("/") + request.path
            sent.set()
            connection.request(method, path, request.body, {"Connection": "close"})
            with connection.getresponse() as response:
                yield response
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        if late.is_set() or (isinstance(error, TimeoutError) and request.idle is None):
            reason = f"no answer within {request.limit:g} s"
        elif isinstance(error, TimeoutError):
            reason = f"nothing came for {request.idle:g} s"
        kind: type[ProviderError] = ProviderError
        if sent.is_set() and request.changes:
            kind = OutcomeUnknownError
        elif not sent.is_set() and isinstance(error, ConnectionRefusedError):
            kind = NotListeningError
        raise kind(f"{server.url}: {reason}") from error


def read(response: HTTPResponse, most: int) -> bytes:
    """The body of an answer. Raises ValueError when it has more than `most` bytes."""
    body = response.read(most + 1)
    if len(body) > most:
        raise ValueError(f"an answer of more than {most} bytes")
    return body


@contextmanager
def _connected(server: Server, request: Request, late: Event) -> Iterator[HTTPConnection]:
    parts = urlsplit(server.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port is None:
        raise ValueError("not an http or https URL with a port")
    if parts.scheme == "https" and server.tls is None:
        raise ValueError("this node has no certificate for it yet")
    secure = _context(server.tls) if parts.scheme == "https" and server.tls is not None else None
    connection = HTTPConnection(parts.hostname, parts.port, timeout=request.idle or request.limit)
    try:
        connection.connect()
        secured = None
        if secure is not None and server.tls is not None:
            # A connection that the peer has reset meanwhile ends here: wrap_socket() would lose the open socket.
            connection.sock.getpeername()
            secured = connection.sock = secure.wrap_socket(
                connection.sock, server_hostname=server.tls.name, do_handshake_on_connect=False
            )
        with _ended_after(request.limit, connection.sock, late):
            if secured is not None:
                secured.do_handshake()
            yield connection
    finally:
        connection.close()


def _context(tls: Tls) -> SSLContext:
    import ssl  # only nodes whose etcd has TLS pay for it

    context = ssl.create_default_context(cafile=str(tls.directory / "ca.crt"))
    context.load_cert_chain(tls.directory / "tls.crt", tls.directory / "tls.key")
    return context


@contextmanager
def _ended_after(seconds: float, connected: socket.socket, late: Event) -> Iterator[None]:
    """End a connection after some seconds, however many bytes still trickle in."""

    def end() -> None:
        late.set()
        with suppress(OSError):  # it was closed at this very moment
            # TLS's own shutdown would take the connection's state from under the thread that reads.
            socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
