"""The places where names are kept, each with a provider and a way past it: as an outsider, and as a reader."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from protokube.core.dns.model import ChangeKind, RecordChange
from protokube.dnsprovider.hosts import HostsFile
from protokube.dnsprovider.rfc2136 import Rfc2136, load_server
from protokube.dnsprovider.route53 import Route53
from protokube.ports import DNSProvider
from tests.lab.bind import Bind
from tests.lab.route53 import Fault, Route53Server

ZONE = "c1.test"
SUFFIX = f".internal.{ZONE}"


class Backend(Protocol):
    """One place. `values` is what a client of the names would get."""

    def provider(self) -> DNSProvider: ...

    def values(self, name: str, kind: str) -> set[str]: ...

    def outsider_puts(self, name: str, kind: str, *values: str) -> None: ...

    def outsider_removes(self, name: str, kind: str) -> None: ...


class Server(Backend, Protocol):
    """A place on the network: it has zones, aliases and keys, and may be silent."""

    def outsider_aliases(self, name: str) -> None: ...

    def with_wrong_credentials(self) -> tuple[DNSProvider, str]: ...

    def silent(self) -> DNSProvider: ...

    def down(self) -> None: ...

    def up(self) -> None: ...


class HostsBackend:
    """A hosts file; the outsider edits our block, in spite of what its first line asks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.write_text("127.0.0.1 localhost\n")

    def provider(self) -> DNSProvider:
        return HostsFile(str(self._path))

    def values(self, name: str, kind: str) -> set[str]:
        lines = (line.partition("#")[0].split() for line in self._path.read_text().splitlines())
        found = {words[0] for words in lines if name in words[1:]}
        return {address for address in found if (":" in address) == (kind == "AAAA")}

    def outsider_puts(self, name: str, kind: str, *values: str) -> None:
        lines = self._path.read_text().splitlines() or []
        if not any(line.startswith("# Begin host entries") for line in lines):
            self.provider().change([RecordChange(ChangeKind.UPSERT, name, "A", ("192.0.2.200",), 60, "x", False)])
            lines = self._path.read_text().splitlines()
        end = next(i for i, line in enumerate(lines) if line.startswith("# End host entries"))
        kept = [line for line in lines[:end] if name not in line.split()]
        self._path.write_text("\n".join([*kept, *(f"{value} {name}" for value in values), *lines[end:], ""]))

    def outsider_removes(self, name: str, kind: str) -> None:
        kept = [line for line in self._path.read_text().splitlines() if name not in line.split()]
        self._path.write_text("\n".join([*kept, ""]))


class BindBackend:
    def __init__(self, bind: Bind) -> None:
        self.bind = bind

    def provider(self) -> DNSProvider:
        return Rfc2136(load_server(self.bind.server, self.bind.keyfile))

    def values(self, name: str, kind: str) -> set[str]:
        return self.bind.values(name, kind)

    def outsider_puts(self, name: str, kind: str, *values: str) -> None:
        self.bind.remove(name, kind)
        self.bind.add(name, kind, *values)

    def outsider_removes(self, name: str, kind: str) -> None:
        self.bind.remove(name, kind)

    def outsider_aliases(self, name: str) -> None:
        self.bind.add(name, "CNAME", f"lb.{ZONE}.")

    def with_wrong_credentials(self) -> tuple[DNSProvider, str]:
        other = self.bind.work / "other.key"
        self.bind.make_key("protokube", "hmac-sha256", other)
        return Rfc2136(load_server(self.bind.server, other)), "BADSIG"

    def silent(self) -> DNSProvider:
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        return Rfc2136(load_server(f"127.0.0.1:{port}", self.bind.keyfile))

    def down(self) -> None:
        self.bind.stop()

    def up(self) -> None:
        self.bind.start()

    def close(self) -> None:
        if hasattr(self, "_listener"):
            self._listener.close()


class Route53Backend:
    def __init__(self, server: Route53Server) -> None:
        self.server = server
        self.zone = server.create_zone(ZONE)

    def provider(self) -> DNSProvider:
        return Route53(internal_suffix=lambda: SUFFIX)

    def values(self, name: str, kind: str) -> set[str]:
        listed = name.replace("*", "\\052") + "."
        found = [one for one in self.server.records(self.zone) if (one["Name"], one["Type"]) == (listed, kind)]
        return {value for one in found for value in one["ResourceRecords"]}

    def outsider_puts(self, name: str, kind: str, *values: str) -> None:
        self.server.remove(self.zone, name, kind)
        self.server.put(self.zone, name, kind, *values)

    def outsider_removes(self, name: str, kind: str) -> None:
        self.server.remove(self.zone, name, kind)

    def outsider_aliases(self, name: str) -> None:
        target = {"DNSName": f"lb.{ZONE}.", "HostedZoneId": "Z2", "EvaluateTargetHealth": False}
        self.server.put(self.zone, name, "A", AliasTarget=target)

    def with_wrong_credentials(self) -> tuple[DNSProvider, str]:
        provider = self.provider()
        self.server.faults.append(Fault("InvalidClientTokenId", 403))
        return provider, "InvalidClientTokenId"

    def silent(self) -> DNSProvider:
        provider = self.provider()
        self.server.faults.append(Fault(delay=12))
        return provider

    def down(self) -> None:
        self.server.faults.append(Fault("ServiceUnavailable", 503))

    def up(self) -> None:
        self.server.faults.clear()


@contextmanager
def bind_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BindBackend]:
    with Bind(tmp_path, (ZONE,)) as bind:
        backend = BindBackend(bind)
        yield backend
        backend.close()


@contextmanager
def route53_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Route53Backend]:
    with Route53Server() as server:
        server.environment(monkeypatch)
        yield Route53Backend(server)


@contextmanager
def hosts_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostsBackend]:
    yield HostsBackend(tmp_path / "hosts")


SERVERS: Mapping[str, Callable[[Path, pytest.MonkeyPatch], AbstractContextManager[Server]]] = {
    "bind": bind_backend,
    "route53": route53_backend,
}
PLACES: Mapping[str, Callable[[Path, pytest.MonkeyPatch], AbstractContextManager[Backend]]] = {
    "hosts": hosts_backend,
    **SERVERS,
}
