"""One request to an API server, over TLS, with one limit for the whole exchange.

Plain HTTP instead of a client library: those that make values of known kinds drop every field that a newer API server
adds, and an object that is written back without them loses what others have set.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from ssl import SSLContext, SSLSocket, create_default_context
from threading import Event, Lock, Timer
from urllib.parse import urlsplit

from msgspec import MsgspecError, Struct
from msgspec.json import decode, encode

from protokube.core.model import MIB
from protokube.errors import ProviderError

LIMIT = 10.0
"""Seconds, from connecting to the last byte."""

_ANSWER_LIMIT = 64 * MIB

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON = "application/json"


class KubeError(ProviderError):
    """The API server refused a request. `status` is HTTP's, `reason` the API's own word (NotFound, Conflict)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(message)


class TooLongError(ProviderError):
    """An answer is longer than any that is read. Pages of a list can be asked for with fewer objects."""


class Credentials(Struct, frozen=True):
    """What a client shows, and whom it trusts: `ca`, the text or the file of the authorities' certificates; and a
    directory with tls.crt and tls.key, or a bearer token."""

    ca: str | Path
    certificate: Path | None = None
    token: str | None = None

    def __repr__(self) -> str:
        """Without the token."""
        return f"Credentials(certificate={self.certificate}, token={'…' if self.token else None})"

    def context(self) -> SSLContext:
        """TLS with these; files are read now, so that exchanged certificates count from the next request on."""
        ca = self.ca
        context = create_default_context(cadata=ca) if isinstance(ca, str) else create_default_context(cafile=ca)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate / "tls.crt", self.certificate / "tls.key")
        return context


class KubeHttp:
    """The API server at `url`, such as https://127.0.0.1:6443."""

    def __init__(self, url: str, credentials: Credentials, limit: float = LIMIT) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise ProviderError(f"{url}: no URL of an API server (expected https://HOST:PORT)")
        self.url = url.rstrip("/")
        self._host, self._port = parts.hostname, parts.port or 443
        self._credentials = credentials
        self._limit = limit
        self._lock = Lock()
        self._following: set[SSLSocket] = set()
        self._ended = False

    def end(self) -> None:
        """End every answer that comes bit by bit, whichever thread reads it. No other request begins afterwards."""
        with self._lock:
            self._ended = True
            for one in self._following:
                _shut(one)

    def request(self, method: str, path: str, body: object = None, kind: str = JSON) -> object:
        """The answer, read as JSON; `body` is sent as JSON.

        Raises KubeError when the API server refuses, ProviderError when there is no answer.
        """
        status, content = self._exchange(method, path, None if body is None else encode(body), kind)
        if status >= 400:
            raise _refusal(status, content, f"{method} {self.url}{path}")
        return _read(content, f"{method} {self.url}{path}")

    def text(self, path: str) -> tuple[int, str]:
        """Status and body of a path that answers with plain text, such as /readyz."""
        status, content = self._exchange("GET", path, None, JSON)
        return status, content.decode("utf-8", "replace")

    def lines(self, path: str, seconds: float) -> Iterator[bytes]:
        """The lines of an answer that comes bit by bit, such as a watch's, until the API server ends it.

        Raises KubeError when it refuses, ProviderError when nothing comes for `seconds`, when the answer ends within
        a line, and after `end`.
        """
        call = f"GET {self.url}{path}"
        try:
            with self._connected(self._limit) as connection:
                assert isinstance(connection.sock, SSLSocket)
                with self._endable(connection.sock) as socket_:
                    connection.request("GET", path, headers=self._headers())
                    response = connection.getresponse()
                    if response.status >= 400:
                        raise _refusal(response.status, response.read(_ANSWER_LIMIT), call)
                    socket_.settimeout(seconds)
                    while line := response.readline(_ANSWER_LIMIT):
                        if not line.endswith(b"\n"):
                            raise ProviderError(
                                f"{call}: the answer ends within a line, after {len(line)} bytes of it"
                            )
                        yield line
        except (OSError, HTTPException, ValueError) as error:
            raise ProviderError(f"{call}: {str(error) or type(error).__name__}") from error

    @contextmanager
    def _endable(self, connected: SSLSocket) -> Iterator[SSLSocket]:
        """A socket that `end` may shut. http.client lets go of it with the answer's head."""
        with self._lock:
            if self._ended:
                raise ProviderError(f"{self.url}: this client was ended")
            self._following.add(connected)
        try:
            yield connected
        finally:
            with self._lock:
                self._following.discard(connected)

    @contextmanager
    def _connected(self, limit: float) -> Iterator[HTTPConnection]:
        """A connection with TLS, before its handshake; closed in the end."""
        if self._ended:
            raise ProviderError(f"{self.url}: this client was ended")
        context = self._credentials.context()
        connection = HTTPConnection(self._host, self._port, timeout=limit)
        try:
            connection.connect()
            connection.sock.getpeername()  # raises once it is reset: wrap_socket() would lose the open socket
            connection.sock = context.wrap_socket(
                connection.sock, server_hostname=self._host, do_handshake_on_connect=False
            )
            yield connection
        finally:
            connection.close()

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "Connection": "close", "User-Agent": "protokube"}
        if self._credentials.token is not None:
            headers["Authorization"] = f"Bearer {self._credentials.token}"
        return headers

    def _exchange(self, method: str, path: str, body: bytes | None, kind: str) -> tuple[int, bytes]:
        late = Event()
        try:
            return self._send(method, path, body, kind, late)
        except (OSError, HTTPException, ValueError) as error:
            slow = late.is_set() or isinstance(error, TimeoutError)
            reason = f"no answer within {self._limit:g} s" if slow else str(error) or type(error).__name__
            raise ProviderError(f"{method} {self.url}{path}: {reason}") from error

    def _send(self, method: str, path: str, body: bytes | None, kind: str, late: Event) -> tuple[int, bytes]:
        with self._connected(self._limit) as connection:
            assert isinstance(connection.sock, SSLSocket)
            with _ended_after(self._limit, connection.sock, late):
                connection.sock.do_handshake()
                headers = self._headers() | ({"Content-Type": kind} if body is not None else {})
                connection.request(method, path, body=body, headers=headers)
                response = connection.getresponse()
                content = response.read(_ANSWER_LIMIT + 1)
        if len(content) > _ANSWER_LIMIT:
            raise TooLongError(f"{method} {self.url}{path}: an answer of more than {_ANSWER_LIMIT} bytes")
        return response.status, content


def _read(content: bytes, call: str) -> object:
    try:
        return decode(content)
    except MsgspecError as error:
        raise ProviderError(f"{call}: the answer is no JSON: {error}") from error


def _refusal(status: int, content: bytes, call: str) -> KubeError:
    """The API's own words, which stand in a Status object."""
    try:
        found = decode(content)
    except MsgspecError:
        found = None
    told: Mapping[str, object] = found if isinstance(found, dict) else {}
    reason = str(told.get("reason") or f"HTTP {status}")
    return KubeError(status, reason, f"{call}: {told.get('message') or reason}")


@contextmanager
def _ended_after(seconds: float, connected: SSLSocket, late: Event) -> Iterator[None]:
    """End a connection after some seconds, however many bytes still trickle in."""

    def end() -> None:
        late.set()
        _shut(connected)

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut(connected: SSLSocket) -> None:
    """End a connection for the thread that reads it: TLS's own shutdown would take its state from under that."""
    with suppress(OSError):  # it ended by itself a moment before
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
