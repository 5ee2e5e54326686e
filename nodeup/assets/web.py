"""One GET over HTTP(S), with limits that hold.

http.client reads from whatever it is handed. So every byte, headers and chunk sizes included, comes through one
stream that measures: a server that trickles its headers is found like one that trickles its body. The time limits of
urllib3, requests and httpx are for one receive each, and let both pass; and they take longer to import.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from nodeup.assets.errors import CutError, MirrorError
from nodeup.assets.limits import Limits
from protokube.core.node.asset_settings import url_problem
from protokube.core.node.assets import shown
from protokube.together import start

_REDIRECTS = (301, 302, 303, 307, 308)
_PIECE = 256 << 10
_MOST_DIGITS = 19
"""Of a length in bytes: more than any file has."""

Clock = Callable[[], float]


class Trust(Protocol):
    """Gives the TLS context, made when it is first needed: reading the certificates takes a while."""

    def __call__(self) -> ssl.SSLContext:
        """The context."""


class Response:
    """An answer whose body is still to be read."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self._answer = answer
        self.status = answer.status
        self.reason = f"{answer.status} {answer.reason}".strip()
        self.headers = answer.headers
        length = answer.headers.get("Content-Length", "")
        stated = length.isascii() and length.isdigit() and not answer.chunked
        if stated and len(length) > _MOST_DIGITS:
            raise MirrorError(f"its Content-Length has {len(length)} digits")
        self.length = int(length) if stated else None

    def pieces(self) -> Iterator[bytes]:
        """The body, piece by piece. Raises CutError when it ends too early."""
        got = 0
        while self.length is None or got < self.length:
            with _naming_failures():
                piece = self._answer.read1(_PIECE)
            if not piece:
                break
            got += len(piece)
            yield piece
        if self.length is not None and got < self.length:
            raise CutError(f"the connection ended after {got} of {self.length} bytes")


@contextmanager
def get(
    url: str, headers: Mapping[str, str], limits: Limits, trust: Trust, method: str = "GET"
) -> Iterator[Response]:
    """Ask for a URL and follow its redirects. Raises MirrorError when there is no answer within the limits."""
    seen: list[str] = []
    while True:
        seen.append(url)
        with _asked(url, headers, limits, trust, method) as response:
            if response.status not in _REDIRECTS:
                yield response
                return
            url = _next(url, response, seen, limits)


def _next(url: str, response: Response, seen: list[str], limits: Limits) -> str:
    """Where a redirect leads."""
    location = response.headers.get("Location", "")
    try:
        target = urljoin(url, location)
    except ValueError as error:  # half a bracket
        raise MirrorError(f"is redirected to {shown(location)!r}, which is no URL: {error}") from error
    if not target.startswith(("http://", "https://")) or url_problem(target):
        raise MirrorError(f"is redirected to {shown(target)!r}, which is no URL of a file on the web")
    if target in seen:
        raise MirrorError(f"is redirected in a circle, back to {shown(target)}")
    if len(seen) > limits.redirects:
        raise MirrorError(f"is redirected more than {limits.redirects} times, at last to {shown(target)}")
    return target


@contextmanager
def _asked(url: str, headers: Mapping[str, str], limits: Limits, trust: Trust, method: str) -> Iterator[Response]:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    with _naming_failures():
        connection = _connect(host, port, limits)
    try:
        with _naming_failures():
            if secure:
                context = trust()
                connection.getpeername()  # raises once it is reset: wrap_socket() would lose the open socket
                connection = context.wrap_socket(connection, server_hostname=host)
                client: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, context=context)
            else:
                client = http.client.HTTPConnection(host, port)
            connection.settimeout(limits.stall)
            client.sock = _Measured(connection, limits)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            # The file itself is wanted, not a form of it that some middle box packs.
            client.request(method, target, headers={"Accept-Encoding": "identity", "Connection": "close", **headers})
            response = Response(client.getresponse())
        yield response
    finally:
        connection.close()


def _connect(host: str, port: int, limits: Limits) -> socket.socket:
    """Connect to the first address that answers. The addresses share the limit: a dead one leaves time for others."""
    looking = start(f"look up {host}", lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    try:
        addresses = looking.result(limits.connect)
    except TimeoutError:
        raise MirrorError(f"the name {host} was not resolved within {limits.connect:g} s") from None
    deadline = time.monotonic() + limits.connect
    for left in range(len(addresses), 0, -1):
        family, kind, protocol, _, address = addresses[-left]
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(max(0.001, (deadline - time.monotonic()) / left))
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            if left == 1:
                raise
        else:
            connection.settimeout(limits.connect)  # TLS's whole handshake has this limit
            return connection
    raise MirrorError(f"the name {host} has no address")


class _Measured:
    """As much of a socket as http.client uses."""

    def __init__(self, connection: socket.socket, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits

    def sendall(self, data: bytes) -> None:
        self._connection.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Stream(self._connection, self._limits))

    def close(self) -> None:
        """The socket is closed when the answer has been read, not when http.client has no more use for it."""


class _Stream(io.RawIOBase):
    """Bytes from a socket, as long as they come fast enough. Only time spent waiting counts."""

    def __init__(self, connection: socket.socket, limits: Limits, clock: Clock = time.monotonic) -> None:
        super().__init__()
        self._connection = connection
        self._limits = limits
        self._clock = clock
        self._waited = 0.0
        self._got = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what io hands over is one
        before = self._clock()
        count = self._connection.recv_into(buffer)
        self._waited += self._clock() - before
        self._got += count
        if self._waited >= self._limits.window:
            if count and self._got < self._limits.floor * self._waited:
                raise MirrorError(
                    f"only {self._got} bytes in {self._waited:.0f} s (expected {self._limits.floor} a second)"
                )
            self._waited, self._got = 0.0, 0
        return count


@contextmanager
def _naming_failures() -> Iterator[None]:
    """Say what a failure of the network means."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        remedy = (
            "install ca-certificates, or set SSL_CERT_FILE"
            if "issuer" in error.verify_message or "self" in error.verify_message
            else "see the URL, and this machine's clock"
        )
        raise MirrorError(f"its certificate is not trusted: {error.verify_message}; {remedy}") from error
    except ssl.SSLEOFError as error:
        raise CutError("the connection ended inside of TLS") from error
    except ssl.SSLError as error:
        raise MirrorError(f"TLS fails: {error.reason or error}") from error
    except TimeoutError as error:
        raise MirrorError("it does not answer, or stopped answering") from error
    except socket.gaierror as error:
        raise MirrorError(f"its name is not found: {error.strerror}") from error
    except (http.client.IncompleteRead, http.client.RemoteDisconnected, ConnectionResetError) as error:
        raise CutError("the connection ended too early") from error
    except http.client.HTTPException as error:
        raise MirrorError(f"what it answers is not HTTP ({type(error).__name__})") from error
    except UnicodeError as error:  # getaddrinfo() and TLS encode a name by IDNA, which takes not every one
        raise MirrorError(f"its name is no host's name: {error}") from error
    except OSError as error:
        raise MirrorError(f"no connection: {error.strerror}") from error


@functools.cache
def system_trust() -> ssl.SSLContext:
    """Trust the machine's certificate authorities, or those of SSL_CERT_FILE."""
    return ssl.create_default_context()
