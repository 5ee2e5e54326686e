"""Words that come over a wire, as bytes for what reads them: a name server's answers, D-Bus signals and properties,
the kernel's table of mounts, an HTTP server's configuration for nodeup, an agent's provider and records.

Each goes the way that the program goes, from the socket or the file on.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

from nodeup import facts as nodeup_facts
from nodeup import sources as nodeup_sources
from nodeup.assets.limits import Limits
from protokube.agent.core.static import read_pod as read_static_pod
from protokube.agent.http import webcodec
from protokube.agent.records import Records
from protokube.core.dns.model import ChangeKind, RecordChange
from protokube.core.dns.zones import Zone
from protokube.core.node.protokube_config import protokube_config
from protokube.core.node.settings import read_settings
from protokube.dnsprovider.rfc2136 import Rfc2136, load_server
from protokube.errors import ConfigError, ProviderError
from protokube.host.systemd import SystemBus, unit_path
from protokube.kernel import mountinfo
from tests.safety.answers import Reader, serving

_NAME = "api.internal.example.com"
_UNIT = "kubelet.service"


# --- a name server ---


@contextmanager
def _name_server(data: bytes) -> Iterator[int]:
    """Each question is answered with itself, and with these bytes for flags, counts and everything behind it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, suppress(OSError, struct.error):
                        while True:
                            _answer(connection, data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _answer(connection: socket.socket, data: bytes) -> None:
    (length,) = struct.unpack(">H", connection.recv(2, socket.MSG_WAITALL))
    asked = connection.recv(length, socket.MSG_WAITALL)
    question = asked[12 : asked.index(b"\0", 12) + 5]
    head = data[:8].ljust(8, b"\0")
    said = asked[:2] + head[:2] + b"\0\1" + head[2:] + question + data[8:]
    connection.sendall(struct.pack(">H", len(said)) + said)


def _dns(data: bytes) -> object:
    """Zones are looked for, then records are read and written, each from the beginning."""
    with _name_server(data) as port:
        for pinned in ({}, {_NAME: Zone("example.com", "example.com")}):
            provider = Rfc2136(load_server(f"127.0.0.1:{port}"))
            for call in (provider.record_sets, _written(provider)):
                provider._pinned = dict(pinned)
                with suppress(ProviderError):
                    call(frozenset({_NAME}))
    return None


def _written(provider: Rfc2136) -> Callable[[frozenset[str]], object]:
    one = RecordChange(ChangeKind.UPSERT, _NAME, "A", ("10.0.0.1",), 60, "i-1", shared=True)
    return lambda _: provider.change([one])


_SAID = b"\x84\x00"
"""An answer, with authority."""
_HERE = b"\xc0\x0c"
"""The name that was asked for (RFC 1035, 4.1.4)."""


def _record(kind: int, data: bytes, name: bytes = _HERE) -> bytes:
    return name + struct.pack(">HHIH", kind, 1, 60, len(data)) + data


_SOA = _record(6, b"\x02ns\xc0\x0c\x04root\xc0\x0c" + struct.pack(">5I", 1, 60, 60, 600, 1), b"\xc0\x19")
_OWNER = _record(16, b"\x1fprotokube owner=i-1 A 10.0.0.1 x")
ANSWERS = (
    _SAID + b"\0\0\0\1\0\0" + _SOA,
    _SAID + b"\0\1\0\0\0\0" + _record(1, b"\x0a\0\0\1"),
    _SAID + b"\0\2\0\1\0\0" + _record(1, b"\x0a\0\0\1") + _OWNER + _SOA,
    _SAID + b"\0\1\0\0\0\0" + _record(5, b"\2lb\xc0\x19"),
    _SAID + b"\0\1\0\0\0\0" + _record(39, b"\2lb\xc0\x19", b"\xc0\x19"),
    b"\x80\x00\0\0\0\1\0\0" + _record(2, b"\2ns\xc0\x19", b"\xc0\x10"),
    b"\x84\x03\0\0\0\0\0\0",
)


# --- D-Bus ---

_ODD: tuple[Any, ...] = (
    "active", "", 0, -1, True, 2**63, 1.5, [], [[]], ["a"], [["/usr/bin/kubelet", ["kubelet"]]], [0, "/"], {}, None,
    Variant("s", "active"), Variant("as", []), {"ActiveState": Variant("s", "active")}, b"bytes", unit_path(_UNIT),
)  # fmt: skip
_STATES: tuple[dict[str, Variant], ...] = (
    {},
    {"ActiveState": Variant("s", "failed"), "SubState": Variant("s", "")},
    {"ActiveState": Variant("u", 7)},
    {"SubState": Variant("as", ["a"]), "Other": Variant("v", Variant("s", ""))},
)
_UNIT_INTERFACE = "org.freedesktop.systemd1.Unit"
_BODIES: tuple[tuple[str, list[list[Any]]], ...] = (
    ("sa{sv}as", [[_UNIT_INTERFACE, one, []] for one in _STATES]),
    ("uoss", [[7, "/job/7", _UNIT, "done"], [2**32 - 1, "/", "", ""]]),
    ("so", [[_UNIT, unit_path(_UNIT)], ["", "/"]]),
    ("b", [[True], [False]]),
    ("sss", [["org.freedesktop.systemd1", ":1.0", ""], ["", "", ""]]),
    ("", [[]]),
    ("s", [["active"], [""]]),
    ("v", [[Variant("s", "")]]),
    ("as", [[["a"]], [[]]]),
)
"""Signatures with bodies that are right for them: the library lets no other signal through."""
_MEMBERS = (
    "PropertiesChanged", "JobRemoved", "UnitNew", "UnitRemoved", "Reloading", "NameOwnerChanged", "Unknown",
)  # fmt: skip


def _signals(data: bytes) -> object:
    """A signal for each three bytes: which member, which signature, which body. Then the unit is still known."""

    async def hear() -> None:
        units = SystemBus(asyncio.get_running_loop(), "unix:path=/nonexistent", on_change=lambda _: None)
        units._starting = len(data) & 1
        for at in range(0, len(data) - 2, 3):
            units._watched[unit_path(_UNIT)] = _UNIT
            signature, bodies = _BODIES[data[at + 1] % len(_BODIES)]
            units._heard(
                Message(
                    message_type=MessageType.SIGNAL,
                    path=unit_path(_UNIT),
                    interface="org.freedesktop.DBus.Properties",
                    member=_MEMBERS[data[at] % len(_MEMBERS)],
                    signature=signature,
                    body=bodies[data[at + 2] % len(bodies)],
                )
            )

    return asyncio.run(hear())


def _properties(data: bytes) -> object:
    """Every property has a value that these bytes choose, in a variant or not."""
    answers = [_ODD[byte % len(_ODD)] for byte in data] or [None]
    count = 0

    class Bus:
        async def call(self, _: Message) -> Message:
            nonlocal count
            value, count = answers[count % len(answers)], count + 1
            reply = Message(message_type=MessageType.METHOD_RETURN, reply_serial=1)
            variant = Variant("s", "")
            variant.value = value
            reply.body = [variant] if data[:1] < b"\xf0" else [value] * (count % 3)
            return reply

    async def ask() -> None:
        units = SystemBus(asyncio.get_running_loop(), "unix:path=/nonexistent", job_limit=0.0)
        units._bus = Bus()  # type: ignore[assignment]
        for call in (
            units._state(_UNIT),
            units._program(_UNIT),
            units._those([_UNIT], "NeedDaemonReload"),
            units._those([_UNIT], "Job"),
            units._run_job("StartUnit", _UNIT),
        ):
            with suppress(ProviderError):
                await call

    return asyncio.run(ask())


# --- the kernel's table of mounts ---

_LINE = b"36 35 98:0 / /mnt/a\\040b rw,noatime shared:1 - ext4 /dev/loop0 rw,errors=remount-ro\n"
_LINES = b"35 1 0:1 / / rw - tmpfs none rw\n" + _LINE


def _mounts(data: bytes) -> object:
    Path("mountinfo").write_bytes(data)
    with mock.patch.object(mountinfo, "_MOUNTINFO", "mountinfo"):
        lines = mountinfo.read()
    return [mountinfo.cover(line, lines) for line in mountinfo.below("/", lines).values()]


# --- nodeup ---

_NODEUP = (
    b"cluster: dev.example.com\nrole: control-plane\nkubernetesVersion: v1.30.2\nhostname: auto\n"
    b"modules: [br_netfilter]\n"
    b"sysctls: {net.ipv4.ip_forward: 1}\npackages: [jq, socat=1.7]\ncontainerd: {}\nassets:\n"
    b"- {url: 'https://dl.k8s.io/v1.30.2/bin/kubelet', sha256: '" + b"a" * 64 + b"', path: /usr/bin/kubelet}\n"
    b"files:\n- {path: /etc/a, content: b, mode: '0644'}\nunits:\n- {name: a.service, content: '[Service]'}\n"
    b"protokube: {master: true, kubelet: {maxPods: 40}}\n"
)


def _settings(text: str) -> object:
    settings, faults = read_settings(text, "nodeup.yaml")
    return faults, protokube_config(settings)


def _configuration(data: bytes) -> object:
    """A web server that says this when it is asked for a configuration."""
    limits = Limits(connect=5, stall=2, window=2, redirects=1)
    with serving(data) as port:
        return nodeup_sources.load(f"http://127.0.0.1:{port}/nodeup.yaml", limits)


_OS_RELEASE = b'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'
_DPKG = (
    b"Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.21\n\n"
    b"Package: jq\nStatus: install ok half-configured\nVersion: 1\n"
)


def _machine_texts(text: str) -> object:
    """Files of a machine, or of an image that somebody else built."""
    return (
        nodeup_facts._os_release(text),
        nodeup_facts._packages(text),
        nodeup_facts._architecture(text),
        nodeup_facts._cloud_hostname(text),
    )


# --- the agent ---

_POD = msgspec.json.encode(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "namespace": "default", "uid": "0b5e7a4c-52d3-5c1e-9f00-6f2d0c7a1b11"},
        "spec": {"containers": [{"name": "a", "image": "b", "env": [{"name": "c", "value": "d"}]}]},
        "status": {"phase": "Running"},
    }
)
_RECORD = b'{"pod": ' + _POD + b', "boot": "b", "since": 1.0, "started_at": 2.0, "attempts": {"a": 1}}'
_WEB = (
    webcodec.read_pod,
    webcodec.read_status,
    webcodec.read_pods,
    webcodec.read_events,
    webcodec.read_conditions,
    webcodec.read_addresses,
    webcodec.read_capacity,
)


def _web(data: bytes) -> object:
    """Each reading of the web provider's answers."""
    for read in _WEB:
        with suppress(ProviderError):
            read(data, "GET /pods")
    return None


def _records(data: bytes) -> object:
    Path("records").mkdir(exist_ok=True)
    Path("records/0b5e7a4c-52d3-5c1e-9f00-6f2d0c7a1b11.json").write_bytes(data)
    return Records(Path("records")).load()


def _text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: read(data.decode(errors="replace"))


def readers() -> dict[str, Reader]:
    """By name: how bytes are read, the errors that may come of it, inputs that are taken."""
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/yaml\r\nContent-Length: %d\r\n\r\n" % len(_NODEUP) + _NODEUP
    moved = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere.yaml\r\nContent-Length: 0\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na: b\r\n0\r\n\r\n"
    return {
        "dns-answers": (_dns, (), ANSWERS),
        "dbus-signals": (_signals, (), (bytes(byte for n in range(7) for byte in (n, min(n, 4), n)),)),
        "dbus-properties": (_properties, (), (b"\0\0\0", b"\x0a\x0a", b"\xf1\1")),
        "mountinfo": (_mounts, (OSError,), (_LINES,)),
        "nodeup": (_text(_settings), (), (_NODEUP,)),
        "nodeup-web": (_configuration, (ConfigError, ProviderError), (page, moved, chunked)),
        "nodeup-files": (_text(_machine_texts), (), (_OS_RELEASE, _DPKG, b'{"v1": {"local_hostname": "a"}}')),
        "static-pod": (lambda data: read_static_pod(data, "/etc/a.yaml"), (), (_POD,)),
        "web-provider": (_web, (), (_POD, b"[" + _POD + b"]", b'{"next": 1, "pods": []}', b'{"cpu": "1"}')),
        "agent-records": (_records, (ProviderError,), (_RECORD,)),
    }
