"""Health is asked over HTTP and HTTPS. An endpoint that isn't there is an error that names it."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from protokube.core.pki.document import StoredAuthority
from protokube.core.pki.model import CertificateWanted
from protokube.errors import NotListeningError
from protokube.host.health import ask
from protokube.pki.x509 import issue, make_authority


class _Ill(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 503)
        self.end_headers()
        self.wfile.write(b"ok" if self.path == "/livez" else b"x" * 5000)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Ill)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    """What a component shows that makes its certificate at its start: an authority that nobody knows."""
    now = time.time()
    _, files = issue(
        CertificateWanted("x", "a", "elsewhere", server=True), StoredAuthority(make_authority("a", now)), now
    )
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    return found


def test_health_is_asked_over_http_and_https(context: ssl.SSLContext) -> None:
    for shown in (None, context):
        with serving(shown) as url:
            assert (ask(f"{url}/livez").good, ask(f"{url}/livez").text) == (True, "ok")
            ill = ask(f"{url}/readyz")
            assert (ill.good, ill.status, len(ill.text)) == (False, 503, 1000)


def test_no_answer_is_an_error_that_names_the_endpoint() -> None:
    with serving() as url:
        pass
    with pytest.raises(NotListeningError, match=f"GET {url}/livez: .*refused"):
        ask(f"{url}/livez")
