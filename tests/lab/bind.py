"""A real BIND with zones that take signed dynamic updates, on an ephemeral port of loopback.

    with Bind(tmp_path, zones=("c1.test",)) as bind:
        Rfc2136(load_server(bind.server, bind.keyfile))
        bind.add("api.c1.test", "A", "10.0.0.9")        # as another program with rights of its own would

Needs the packages bind9 and bind9-utils (named, tsig-keygen).
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update

START_LIMIT = 120.0


class Bind:
    """One named process. `server` is HOST:PORT for clients; `keyfile` holds the key that may write."""

    def __init__(
        self, work: Path, zones: Sequence[str] = ("c1.test",), host: str = "127.0.0.1", *, port: int = 0
    ) -> None:
        self.work = work / f"named-{os.urandom(4).hex()}"
        self.work.mkdir(parents=True)
        self.zones = tuple(zones)
        self.host = host
        self.keyfile = self.work / "protokube.key"
        self.make_key("protokube", "hmac-sha256", self.keyfile)
        self._outsider = dns.tsig.Key("outsider", base64.b64encode(os.urandom(32)).decode(), dns.tsig.HMAC_SHA256)
        for zone in self.zones:
            text = f"$TTL 10\n@ IN SOA ns.{zone}. root.{zone}. 1 60 60 600 1\n@ IN NS ns.{zone}.\nns IN A 127.0.0.1\n"
            (self.work / f"{zone}.db").write_text(text)
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def server(self) -> str:
        """HOST:PORT, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @staticmethod
    def make_key(name: str, algorithm: str, path: Path) -> None:
        """Write a fresh key the way an operator does."""
        done = subprocess.run(["tsig-keygen", "-a", algorithm, name], capture_output=True, check=True, timeout=120)
        path.write_bytes(done.stdout)

    def start(self) -> None:
        """Start named, on the same port as before if it ran already, and wait until it answers."""
        for _ in range(5):
            self.port = self.port or _free_port(self.host)
            (self.work / "named.conf").write_text(self._configuration())
            with (self.work / "log").open("ab") as log:
                command = ["named", "-f", "-n", "1", "-c", str(self.work / "named.conf")]
                self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            if self._answers():
                return
            self.stop()
            self.port = 0
        raise AssertionError(f"named does not start:\n{(self.work / 'log').read_text()}")

    def stop(self) -> None:
        """End named; its zones keep what was written."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=120)
            self._process = None

    def freeze(self) -> None:
        """Let named take connections, as the kernel does for it, and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def asked(self, name: str, rdtype: str) -> int:
        """How often it has been asked for a name and type since the beginning."""
        return (self.work / "queries").read_text().count(f" query: {name} IN {rdtype} ")

    def updates(self) -> int:
        """How many times its zones were changed, or were tried to be."""
        return (self.work / "updates").read_text().count("updating zone")

    # --- as another program ---

    def values(self, name: str, rdtype: str) -> set[str]:
        """What the server answers for a name and type."""
        query = dns.message.make_query(name, rdtype)
        answer = dns.query.tcp(query, self.host, port=self.port, timeout=60)
        return {rdata.to_text() for rrset in answer.answer for rdata in rrset if rrset.rdtype.name == rdtype}

    def add(self, name: str, rdtype: str, *values: str, ttl: int = 300) -> None:
        """Add records with another key than protokube's."""
        update = self._update(name)
        update.add(dns.name.from_text(name), ttl, rdtype, *values)
        self._send(update)

    def remove(self, name: str, rdtype: str, *values: str) -> None:
        """Remove records, or all of a type."""
        update = self._update(name)
        update.delete(dns.name.from_text(name), rdtype, *values)
        self._send(update)

    def _update(self, name: str) -> dns.update.UpdateMessage:
        zone = max((one for one in self.zones if f".{name}".endswith(f".{one}")), key=len)
        update = dns.update.UpdateMessage(dns.name.from_text(zone))
        update.use_tsig(self._outsider)
        return update

    def _send(self, update: dns.update.UpdateMessage) -> None:
        answer = dns.query.tcp(update, self.host, port=self.port, timeout=60)
        assert answer.rcode() == dns.rcode.NOERROR, dns.rcode.to_text(answer.rcode())

    # --- the process ---

    def _answers(self) -> bool:
        assert self._process is not None
        end = time.monotonic() + START_LIMIT
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError, dns.exception.DNSException, EOFError):
                if self.values(f"ns.{self.zones[0]}", "A"):
                    return True
            time.sleep(0.02)
        return False

    def _configuration(self) -> str:
        outsider = base64.b64encode(self._outsider.secret).decode()
        listen = (
            f"listen-on {{ none; }}; listen-on-v6 port {self.port} {{ {self.host}; }};"
            if ":" in self.host
            else f"listen-on port {self.port} {{ {self.host}; }}; listen-on-v6 {{ none; }};"
        )
        zones = "".join(
            f'zone "{zone}" {{ type primary; file "{self.work}/{zone}.db"; '
            "update-policy { grant protokube zonesub ANY; grant outsider zonesub ANY; }; };\n"
            for zone in self.zones
        )
        return f"""options {{
  directory "{self.work}"; pid-file "{self.work}/named.pid"; session-keyfile "{self.work}/session.key";
  managed-keys-directory "{self.work}"; {listen}
  recursion no; dnssec-validation no; allow-query {{ any; }}; notify no; minimal-responses no; querylog yes;
}};
logging {{
  channel queries {{ file "{self.work}/queries"; }}; category queries {{ queries; }};
  channel updates {{ file "{self.work}/updates"; severity info; }};
  category update {{ updates; }}; category update-security {{ updates; }};
}};
controls {{ }};
include "{self.keyfile}";
key "outsider" {{ algorithm hmac-sha256; secret "{outsider}"; }};
{zones}"""


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
