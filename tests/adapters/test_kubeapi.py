"""The client of the API, with a server that cuts answers off, and is slow."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from protokube.core.objects.model import CERTIFICATE
from protokube.core.objects.tokens import Token
from protokube.core.pki.document import StoredAuthority
from protokube.core.pki.model import PKI_DIR, CertificateWanted
from protokube.errors import ProviderError
from protokube.kubeapi import http
from protokube.kubeapi.client import KubeApi
from protokube.kubeapi.http import Credentials, KubeHttp
from protokube.kubeapi.node import NodeObjects, signer_age
from protokube.kubeapi.requests import holds
from protokube.pki.x509 import issue, make_authority
from tests.lab.trial import until

LISTED = 40
"""Objects in the server's lists."""
LIMIT = 120.0


class Server(ThreadingHTTPServer):
    daemon_threads = True
    watched = b""
    """What a watch answers before it is cut off; empty: it stays open."""
    watches = 0


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = {key: one for key, (one, *_) in parse_qs(asked.query).items()}
        if asked.path == "/readyz":
            self._answer(b"ok")
        elif "watch" in query:
            self._watch()
        elif "limit" in query:
            start, size = int(query.get("continue", 0)), int(query["limit"])
            count = LISTED if asked.path == "/things" else 0
            items = [{"number": number, "text": "x" * 100} for number in range(count)[start : start + size]]
            more = {"continue": str(start + size)} if start + size < count else {}
            self._answer(json.dumps({"metadata": {"resourceVersion": "7", **more}, "items": items}).encode())
        else:
            self._answer(b"{}")

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _watch(self) -> None:
        self.server.watches += 1
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(self.server.watched), self.server.watched or b""))
        self.wfile.flush()
        if not self.server.watched:
            self.connection.recv(1)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A node's root, with protokube's certificate, which the server shows as well."""
    wanted = CertificateWanted(CERTIFICATE, "kubernetes", "x", addresses=("127.0.0.1",), server=True, client=True)
    _, texts = issue(wanted, StoredAuthority(make_authority("kubernetes", time.time())), time.time())
    folder = tmp_path / PKI_DIR.lstrip("/") / CERTIFICATE
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return tmp_path


@pytest.fixture
def server(files: Path) -> Iterator[Server]:
    folder = files / PKI_DIR.lstrip("/") / CERTIFICATE
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    with Server(("127.0.0.1", 0), Handler) as made:
        made.socket = context.wrap_socket(made.socket, server_side=True)
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def api(server: Server, files: Path) -> KubeApi:
    ca = files / PKI_DIR.lstrip("/") / CERTIFICATE / "ca.crt"
    return KubeApi(KubeHttp(f"https://127.0.0.1:{server.server_address[1]}", Credentials(ca)))


def test_a_watch_that_is_cut_off_within_a_line_ends_with_a_message(server: Server, api: KubeApi) -> None:
    server.watched = b'{"type":"ADDED"}\n{"type":"MODI'
    events = api.watch("/things")
    assert next(events) == {"type": "ADDED"}
    with pytest.raises(ProviderError, match="ends within a line, after 13 bytes"):
        next(events)


def test_a_line_that_is_no_json_is_an_error_with_a_message(server: Server, api: KubeApi) -> None:
    server.watched = b"<html>\n"
    with pytest.raises(ProviderError, match="no JSON"):
        next(api.watch("/things"))


def test_a_watch_is_ended_from_another_thread(server: Server, api: KubeApi) -> None:
    ends: list[object] = []

    def follow() -> None:
        try:
            ends.extend(api.watch("/things"))
        except ProviderError as error:
            ends.append(error)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    until("the watch is open", lambda: server.watches)
    api.end()
    thread.join(LIMIT)
    assert not thread.is_alive()
    with pytest.raises(ProviderError, match="was ended"):
        api.list("/things")


def test_no_watch_outlives_a_nodes_objects(server: Server, files: Path) -> None:
    objects = NodeObjects(str(files), server.server_address[1], lambda _: "unread", lambda _: None)
    before = set(threading.enumerate())
    objects.look(())
    until("the watch is open", lambda: server.watches)
    (watch,) = (one for one in set(threading.enumerate()) - before if one.name == "watch of requests")
    objects.close()
    watch.join(LIMIT)
    assert not watch.is_alive()
    seen = server.watches
    objects.look(())  # a look that hung until now begins none
    assert server.watches == seen
    assert not [one for one in set(threading.enumerate()) - before if one.name == "watch of requests"]


def test_pages_that_are_too_long_are_asked_for_with_fewer_objects(
    api: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_ANSWER_LIMIT", 1000)
    assert [one["number"] for one in api.list("/things")] == list(range(LISTED))
    monkeypatch.setattr(http, "_ANSWER_LIMIT", 100)
    with pytest.raises(ProviderError, match="more than 100 bytes"):
        api.list("/things")


def test_an_authority_that_signs_has_an_age_once_it_was_exchanged(tmp_path: Path) -> None:
    assert signer_age(str(tmp_path), time.time()) is None
    kept = tmp_path / PKI_DIR.lstrip("/") / "signing-authority.d"
    for name in ("first", "second"):
        (kept / name).mkdir(parents=True)
        (kept / "new").symlink_to(name)
        (kept / "new").rename(kept / "current")
        age = signer_age(str(tmp_path), time.time() + 50)
        assert age is None if name == "first" else age is not None and 0 <= age - 50 < 100


@pytest.mark.parametrize(
    ("expires", "now", "holding"),
    [
        ("", 2e9, True),
        ("2026-11-28T06:00:00Z", 1795845599.0, True),
        ("2026-11-28T06:00:00Z", 1795845601.0, False),
        ("2026-11-28T08:00:00+02:00", 1795845601.0, False),
        ("tomorrow", 0.0, False),
    ],
)
def test_a_token_holds_until_its_end(expires: str, now: float, holding: bool) -> None:
    assert holds(Token("abcdef", expires, ""), now) is holding
