"""What a machine finds on its network at its first boot: a web server with files.

    with Site() as site:
        site.files["/kubelet"] = b"…"
        site.url("/kubelet")            # as the machine sees it
        site.requests                   # what was asked for so far

The server is in the network namespace of the thread that makes the site.
"""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

ADDRESS, MACHINE, BITS = "10.9.0.1", "10.9.0.2", 24


class Site:
    """The server. `requests` are the paths that were asked for, in order."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append(self.path)
                content = site.files.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *arguments: object) -> None:
                """`requests` has it."""

        self._web = ThreadingHTTPServer((ADDRESS, 80), Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self._web.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._web.shutdown()
        self._web.server_close()

    def url(self, path: str) -> str:
        """A file's URL."""
        return f"http://{ADDRESS}{path}"

    def sha256(self, path: str) -> str:
        """A file's hash."""
        return hashlib.sha256(self.files[path]).hexdigest()
