"""An HTTP server that serves one file in every wrong way. Each path is a way; `/right/…` is the honest one."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_RANGE = re.compile(r"bytes=(\d+)-")


class LyingServer:
    """Serves `content` on loopback, over TLS when a certificate's file is given. `requests` has every request."""

    def __init__(
        self, content: bytes, certificate: Path | None = None, address: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        self.content = content
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.ended = threading.Event()
        self._secure = certificate is not None
        server = self

        class Handler(_Handler):
            lying = server

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

            def handle_error(self, request: object, client_address: object) -> None:
                """Clients that hang up are what most of the tests are about."""

        self._http = Server(address, Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._http.shutdown()
        self._http.server_close()

    @property
    def sha256(self) -> str:
        """The right hash."""
        return hashlib.sha256(self.content).hexdigest()

    def url(self, way: str, name: str = "kubelet") -> str:
        """The URL of the file by a way of lying."""
        scheme = "https" if self._secure else "http"
        host, port = self._http.server_address[:2]
        where = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"{scheme}://{where}{'' if port in (80, 443) else f':{port}'}/{way}/{name}"

    def ranges(self) -> list[str]:
        """The Range of every request so far, empty where there was none."""
        return [headers.get("Range", "") for _, headers in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lying: LyingServer

    def log_message(self, *arguments: object) -> None:
        """Nobody reads it."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.lying.requests.append((self.path, dict(self.headers)))
        self.close_connection = True
        WAYS[urlsplit(self.path).path.split("/")[1]](self)

    def head(self, status: int, headers: dict[str, str]) -> None:
        """The status line and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def body(self, data: bytes) -> None:
        """Bytes of the body, when there is to be one."""
        if self.command == "GET":
            self.wfile.write(data)

    def hang(self) -> None:
        """Say nothing more until the test has ended."""
        self.wfile.flush()
        self.lying.ended.wait()

    def whole(self, content: bytes, **headers: str) -> None:
        """One answer with a whole content."""
        self.head(200, {"Content-Length": str(len(content)), **{k.replace("_", "-"): v for k, v in headers.items()}})
        self.body(content)

    def asked_from(self) -> int | None:
        """Where the request's range begins."""
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        return int(found[1]) if found else None

    def rest(self, start: int, content: bytes, etag: str) -> None:
        """The rest of a content as 206."""
        end = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.head(206, {"Content-Length": str(len(content) - start), "Content-Range": end, "ETag": etag})
        self.body(content[start:])

    def ranged(self, content: bytes, etag: str = '"one"') -> None:
        """An honest server with ranges."""
        start = self.asked_from()
        if start is None or self.headers.get("If-Range", etag) != etag:
            self.whole(content, ETag=etag, Accept_Ranges="bytes")
        elif start >= len(content):
            self.head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
        else:
            self.rest(start, content, etag)


def _right(to: _Handler) -> None:
    to.ranged(to.lying.content)


def _wrong(to: _Handler) -> None:
    to.whole(b"x" + to.lying.content[1:])


def _page(to: _Handler) -> None:
    to.whole(b"<html>Please log in</html>", Content_Type="text/html")


def _truncated(to: _Handler) -> None:
    """Says the whole length, and ends after a half; every time, and without ranges."""
    to.head(200, {"Content-Length": str(len(to.lying.content))})
    to.body(to.lying.content[: len(to.lying.content) // 2])


def _cut_once(to: _Handler) -> None:
    """The first answer is cut after a half; the rest is served when it is asked for."""
    if to.asked_from() is None:
        to.head(200, {"Content-Length": str(len(to.lying.content)), "ETag": '"one"'})
        to.body(to.lying.content[: len(to.lying.content) // 2])
    else:
        to.ranged(to.lying.content)


def _other_half(to: _Handler) -> None:
    """Every whole answer is cut after a half, and every rest is another file's."""
    start = to.asked_from()
    if start is None:
        _truncated(to)
    else:
        to.rest(start, b"z" * len(to.lying.content), "")


def _endless_length(to: _Handler) -> None:
    to.head(200, {"Content-Length": "9" * 5000})


def _to(location: str) -> Callable[[_Handler], None]:
    return lambda to: to.head(302, {"Location": location, "Content-Length": "0"})


def _cut_chunks(to: _Handler) -> None:
    """Chunked, and cut inside of a chunk."""
    to.head(200, {"Transfer-Encoding": "chunked"})
    to.body(b"%x\r\n" % len(to.lying.content) + to.lying.content[:100])


def _chunked(to: _Handler) -> None:
    to.head(200, {"Transfer-Encoding": "chunked"})
    to.body(b"%x\r\n%b\r\n0\r\n\r\n" % (len(to.lying.content), to.lying.content))


def _changed(to: _Handler) -> None:
    """The file is replaced by another one between the cut and the rest; the second version is the right one."""
    if len(to.lying.requests) == 1:
        to.head(200, {"Content-Length": str(len(to.lying.content)), "ETag": '"one"'})
        to.body(b"y" * (len(to.lying.content) // 2))
    else:
        to.ranged(to.lying.content, etag='"two"')


def _mixed(to: _Handler) -> None:
    """The same without validators: the rest belongs to another version than the beginning."""
    start = to.asked_from()
    if start is not None:
        to.rest(start, to.lying.content, 'W/"weak"')
    elif len(to.lying.requests) == 1:
        to.head(200, {"Content-Length": str(len(to.lying.content))})
        to.body(b"y" * (len(to.lying.content) // 2))
    else:
        to.whole(to.lying.content)


def _shifted(to: _Handler) -> None:
    """Answers a range with another one."""
    start = to.asked_from()
    if start is None:
        end = len(to.lying.content) // (2 if len(to.lying.requests) == 1 else 1)
        to.head(200, {"Content-Length": str(len(to.lying.content)), "ETag": '"one"'})
        to.body(to.lying.content[:end])
    else:
        to.rest(start - 7, to.lying.content, '"one"')


def _no_ranges(to: _Handler) -> None:
    """Cut once; the rest can't be asked for, so the whole comes again."""
    if to.asked_from() is None:
        to.head(200, {"Content-Length": str(len(to.lying.content)), "ETag": '"one"'})
        to.body(to.lying.content[: len(to.lying.content) // 2])
    else:
        to.whole(to.lying.content)


def _unsatisfied(to: _Handler) -> None:
    """416 for every range, and for nothing else."""
    if to.asked_from() is not None:
        to.head(416, {"Content-Range": f"bytes */{len(to.lying.content)}", "Content-Length": "0"})
    else:
        to.whole(to.lying.content)


def _always_416(to: _Handler) -> None:
    to.head(416, {"Content-Length": "0"})


def _status(code: int) -> Callable[[_Handler], None]:
    return lambda to: to.head(code, {"Content-Length": "0"})


def _silent(to: _Handler) -> None:
    to.hang()


def _hang(to: _Handler) -> None:
    """The first half, and then nothing."""
    to.head(200, {"Content-Length": str(len(to.lying.content)), "ETag": '"one"'})
    to.body(to.lying.content[: len(to.lying.content) // 2])
    to.hang()


def _trickle(to: _Handler) -> None:
    """A byte at a time, with pauses that no limit for one receive ever sees."""
    to.head(200, {"Content-Length": str(len(to.lying.content))})
    for byte in to.lying.content:
        to.body(bytes([byte]))
        if to.lying.ended.wait(0.02):
            return


def _trickled_headers(to: _Handler) -> None:
    to.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not to.lying.ended.wait(0.02):
        to.wfile.write(b"X: y\r\n")


def _redirect(to: _Handler) -> None:
    to.head(302, {"Location": "../right/kubelet?signature=secret", "Content-Length": "0"})


def _circle(to: _Handler) -> None:
    to.head(302, {"Location": "/circle/other" if to.path.endswith("kubelet") else "/circle/kubelet"})


def _far(to: _Handler) -> None:
    """Always one further."""
    to.head(307, {"Location": f"/far/{len(to.lying.requests)}", "Content-Length": "0"})


def _to_file(to: _Handler) -> None:
    to.head(302, {"Location": "file:///etc/shadow", "Content-Length": "0"})


def _nowhere(to: _Handler) -> None:
    to.head(302, {"Content-Length": "0"})


def _huge(to: _Handler) -> None:
    """Says that it is larger than any disk."""
    to.head(200, {"Content-Length": str(1 << 60)})
    to.body(to.lying.content)


def _endless(to: _Handler) -> None:
    """Never ends, at full speed."""
    to.head(200, {"Content-Type": "application/octet-stream"})
    while not to.lying.ended.is_set():
        to.body(bytes(1 << 20))


def _garbage(to: _Handler) -> None:
    to.wfile.write(b"\x00\x01\x02 this is no HTTP\r\n\r\n")


def _packed(to: _Handler) -> None:
    """A middle box that says gzip about bytes that are the file itself."""
    to.whole(to.lying.content, Content_Encoding="gzip")


WAYS: dict[str, Callable[[_Handler], None]] = {
    "right": _right,
    "wrong": _wrong,
    "page": _page,
    "truncated": _truncated,
    "other-half": _other_half,
    "endless-length": _endless_length,
    "half-bracket": _to("http://[x"),
    "empty-label": _to("http://a..b/kubelet"),
    "cut-once": _cut_once,
    "cut-chunks": _cut_chunks,
    "chunked": _chunked,
    "changed": _changed,
    "mixed": _mixed,
    "shifted": _shifted,
    "no-ranges": _no_ranges,
    "unsatisfied": _unsatisfied,
    "always-416": _always_416,
    "500": _status(500),
    "404": _status(404),
    "silent": _silent,
    "hang": _hang,
    "trickle": _trickle,
    "trickled-headers": _trickled_headers,
    "redirect": _redirect,
    "circle": _circle,
    "far": _far,
    "to-file": _to_file,
    "nowhere": _nowhere,
    "huge": _huge,
    "endless": _endless,
    "garbage": _garbage,
    "packed": _packed,
}


def certificate(path: Path, *names: str) -> Path:
    """Write a self-signed certificate for host names or addresses, with its key, to one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [
        x509.IPAddress(ipaddress.ip_address(name)) if (name[0].isdigit() or ":" in name) else x509.DNSName(name)
        for name in names
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path
