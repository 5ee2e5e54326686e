"""What a machine finds on its network at its first boot: a web server with files, and a time server.

    make_tap("tap0")
    with Site() as site:
        site.files["/kubelet"] = b"…"
        site.url("/kubelet")            # as the machine sees it
        site.requests                   # what was asked for so far

The servers are in the network namespace of the thread that makes the site.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

ADDRESS, MACHINE, BITS = "10.9.0.1", "10.9.0.2", 24
NETWORK = f"[Match]\nName=eth0\n[Network]\nAddress={MACHINE}/{BITS}\nGateway={ADDRESS}\nNTP={ADDRESS}\n"
"""The machine's end, for systemd-networkd."""
_1970 = 2_208_988_800
"""Seconds from NTP's epoch to Unix's (RFC 5905)."""


def make_tap(name: str) -> None:
    """A tap device in this network namespace, with the site's address."""
    for command in (
        ["tuntap", "add", "dev", name, "mode", "tap"],
        ["addr", "add", f"{ADDRESS}/{BITS}", "dev", name],
        ["link", "set", name, "up"],
    ):
        subprocess.run(["ip", *command], check=True)


class Site:
    """The servers. `requests` are the paths that were asked for, in order."""

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
        self._time = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._time.bind((ADDRESS, 123))

    def __enter__(self) -> Self:
        for serve in (self._web.serve_forever, self._tell_the_time):
            threading.Thread(target=serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._web.shutdown()
        self._web.server_close()
        self._time.sendto(b"", (ADDRESS, 123))  # wakes its thread, which closes it

    def url(self, path: str) -> str:
        """A file's URL."""
        return f"http://{ADDRESS}{path}"

    def sha256(self, path: str) -> str:
        """A file's hash."""
        return hashlib.sha256(self.files[path]).hexdigest()

    def _tell_the_time(self) -> None:
        """Answer as an SNTP server of stratum 1 (RFC 4330)."""
        with self._time:
            while (asked := self._time.recvfrom(512))[0]:
                request, sender = asked
                seconds, fraction = divmod(time.time() + _1970, 1)
                now = struct.pack("!II", int(seconds), int(fraction * (1 << 32)))
                head = struct.pack("!BBBbII4s", 0x24, 1, 6, -20, 0, 0, b"TEST")
                self._time.sendto(head + now + request[40:48] + now + now, sender)
