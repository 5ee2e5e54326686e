"""One real etcd of Debian's, and ports that give one answer or none: what a client of etcd is tried on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.lab.etcd_releases import OWN

START_LIMIT = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Etcd:
    """One real member, alone in its cluster. `quota`: bytes, 0 for etcd's own; `more`: further settings;
    `binaries`: where etcd is."""

    def __init__(
        self, folder: Path, *, quota: int = 0, more: Mapping[str, str] | None = None, binaries: Path = OWN
    ) -> None:
        self.peer = f"http://127.0.0.1:{free_port()}"
        self.client = f"http://127.0.0.1:{free_port()}"
        self._log = (folder / "etcd.log").open("wb")
        self._process = subprocess.Popen(
            [str(binaries / "etcd")],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={
                "PATH": os.environ["PATH"],
                "ETCD_NAME": "etcd-a",
                "ETCD_DATA_DIR": str(folder / "data"),
                "ETCD_LISTEN_PEER_URLS": self.peer,
                "ETCD_LISTEN_CLIENT_URLS": self.client,
                "ETCD_ADVERTISE_CLIENT_URLS": self.client,
                "ETCD_INITIAL_ADVERTISE_PEER_URLS": self.peer,
                "ETCD_INITIAL_CLUSTER": f"etcd-a={self.peer}",
                "ETCD_UNSUPPORTED_ARCH": os.uname().machine,
                "ETCD_QUOTA_BACKEND_BYTES": str(quota),
                **(more or {}),
            },
        )
        self.ctl("endpoint", "health", f"--command-timeout={START_LIMIT}s", "--dial-timeout=10s")

    def ctl(self, *words: str) -> None:
        subprocess.run(
            ["etcdctl", f"--endpoints={self.client}", *words],
            env={"PATH": os.environ["PATH"], "ETCDCTL_API": "3"},
            check=True,
            capture_output=True,
            timeout=START_LIMIT + 10,
        )

    def close(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)
        self._log.close()


@contextlib.contextmanager
def answering(answer: bytes | None) -> Iterator[str]:
    """A port that gives one answer to every connection; with None it accepts and says nothing until it is closed."""
    server = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            kept.append(connection)
            if answer is not None:
                connection.recv(1 << 16)
                with contextlib.suppress(OSError):  # an answer that is too long is not read to its end
                    connection.sendall(answer)
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(10)
        for connection in kept:
            connection.close()


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.0 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
