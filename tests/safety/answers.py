"""Answers of AWS's services, of systemd, of tools and of kubelet, as bytes for the parsers that read them.

Each goes the whole way that the program goes: AWS's through botocore's own parsers, the metadata service's through an
HTTP client, the tools' through our reading of their output.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient
from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

from protokube import awsclient
from protokube.cloudprovider.aws.ec2 import Ec2
from protokube.cloudprovider.aws.imds import Imds
from protokube.dnsprovider.route53 import Route53
from protokube.host.disk.contents import collect
from protokube.host.disk.debugfs import DebugfsError, DebugfsSource
from protokube.host.disk.signatures import Signatures
from protokube.host.kubelet import InstalledKubelet
from protokube.host.systemd import SystemBus

_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


class _Raw:
    """What botocore reads a body from."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._body


class _Said:
    """A client of a service of AWS, whose answers are given by the case; nothing is sent."""

    def __init__(self, service: str) -> None:
        with mock.patch.dict(os.environ, _KEYS):
            self.client: BaseClient = awsclient.client(service, "us-east-1")
        self.status, self.body = 200, b""
        self.client.meta.events.register("before-send", self._answer)  # type: ignore[arg-type]

    def _answer(self, request: Any, **_: Any) -> AWSResponse:
        headers: Any = {"content-type": "text/xml"}
        return AWSResponse(request.url, self.status, headers, _Raw(self.body))


_said = cache(_Said)


def _ec2(call: Callable[[Ec2], object], status: int = 200) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        said, ec2 = _said("ec2"), Ec2(lambda: "us-east-1")
        said.status, said.body, ec2._client = status, data, said.client
        return call(ec2)

    return read


def _sure_volumes(data: bytes) -> object:
    """An answer without a list of volumes is no empty list of volumes."""
    found = _ec2(Ec2.volumes)(data)
    if not found and b"volumeSet" not in data:
        raise AssertionError("no volumes, said by an answer that lists none")
    return found


def _route53(call: Callable[[Route53], object], zone: str | None, status: int = 200) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        said, dns = _said("route53"), Route53(internal_suffix=lambda: ".internal.example.com", zone=zone)
        said.status, said.body = status, data
        dns._made = said.client  # type: ignore[assignment]
        return call(dns)

    return read


_NAME = "api.internal.example.com"


def _records(dns: Route53) -> object:
    from protokube.core.dns.zones import Zone

    dns._pinned[_NAME] = Zone("Z1", "example.com", False)
    return dns.record_sets(frozenset({_NAME}))


def _zones(dns: Route53) -> object:
    dns._items = lambda *_: []  # type: ignore[method-assign]
    return dns.record_sets(frozenset({_NAME}))


def _imds(call: Callable[[Imds], object]) -> Callable[[bytes], object]:
    """Each connection of the metadata service is answered by these bytes."""

    def read(data: bytes) -> object:
        with serving(data) as port, mock.patch.dict(os.environ, _at(port)):
            return call(Imds(allow_v1=True))

    return read


def _at(port: int) -> dict[str, str]:
    return {"AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{port}"}


@contextmanager
def serving(data: bytes) -> Iterator[int]:
    """A web server on this port that answers each connection with these bytes, and a request for a token with one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    _say(connection, data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _say(connection: socket.socket, data: bytes) -> None:
    asked = b""
    while b"\r\n\r\n" not in asked:
        if not (more := connection.recv(4096)):
            return
        asked += more
    token = asked.startswith(b"PUT")
    try:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntoken" if token else data)
    except OSError:  # the client has heard enough
        return


def _dbus(data: bytes) -> object:
    """Every reply has the body that the bytes stand for: no, one or two values, right or wrong ones."""
    words = data.decode(errors="backslashreplace").split(" ")
    values: list[Any] = [Variant("s", word) for word in words if word]
    if data[:1] == b"t":
        values = [Variant("t", len(data))]
    elif data[:1] == b"a":
        values = [Variant("as", words)]
    elif data[:1] == b"p":
        values = list(words)

    class Bus:
        async def call(self, _: Message) -> Message:
            return Message(message_type=MessageType.METHOD_RETURN, reply_serial=1, body=values)

    async def ask() -> object:
        units = SystemBus(asyncio.get_running_loop(), "unix:path=/nonexistent")
        units._bus = Bus()  # type: ignore[assignment]
        return await units._state("kubelet.service"), await units._program("kubelet.service")

    return asyncio.run(ask())


def _debugfs(data: bytes) -> object:
    """What a disk holds, where debugfs answers each of our requests with these bytes."""

    class Source(DebugfsSource):
        def __init__(self) -> None:
            self._inodes = {"": 2}

        def _ask(self, requests: list[str], most: int) -> bytes:
            return b"".join(b"debugfs: cd /\ndebugfs: %s\n%s" % (one.encode(), data) for one in requests)[:most]

    return collect(Source(), ["var/etcd/data"])


class _Ended:
    def __init__(self, code: int, text: bytes) -> None:
        self._said = code, text, b""

    def result(self) -> tuple[int, bytes, bytes]:
        return self._said


def _signatures(data: bytes) -> object:
    """Noise of blkid and wipefs is never nothing."""
    found = Signatures.__new__(Signatures)
    code, half = data[:1] or b"\0", len(data) // 2
    found._running = _Ended(code[0] % 9, data[1:half]), _Ended(0, data[half:])  # type: ignore[assignment]
    found._waited = False
    if found.nothing and data[1:].strip():
        raise AssertionError("something was said, and read as nothing")
    return str(found), found.only_ext4("26464824-ba61-5399-8d21-92c8ad37ce2b")


def _kubelet(data: bytes) -> object:
    """A kubelet that says this, whatever it is asked."""
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "usr/bin/kubelet")
        binary.parent.mkdir(parents=True)
        Path(folder, "said").write_bytes(data)
        binary.write_text(f"#!/bin/sh\nexec /bin/cat '{folder}/said'\n", encoding="utf-8")
        binary.chmod(stat.S_IRWXU)
        return InstalledKubelet(folder).kubelet()


def _machine(data: bytes) -> object:
    """The small files of a machine's kernel and resolver all hold this."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("proc/swaps", "etc/resolv.conf", "run/systemd/resolve/resolv.conf"):
            Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, name).write_bytes(data)
        return InstalledKubelet(folder).machine()


_XML = b'<?xml version="1.0" encoding="UTF-8"?>\n'
VOLUMES = _XML + (
    b'<DescribeVolumesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId><volumeSet>'
    b"<item><volumeId>vol-1</volumeId><size>20</size><availabilityZone>a</availabilityZone><status>in-use</status>"
    b"<attachmentSet><item><volumeId>vol-1</volumeId><instanceId>i-1</instanceId><device>/dev/xvdu</device>"
    b"<status>attached</status></item></attachmentSet><tagSet><item><key>k</key><value>v</value></item></tagSet>"
    b"<multiAttachEnabled>false</multiAttachEnabled></item></volumeSet></DescribeVolumesResponse>"
)
INSTANCES = _XML + (
    b'<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId>'
    b"<reservationSet><item><instancesSet><item><instanceId>i-1</instanceId><instanceState><code>16</code>"
    b"<name>running</name></instanceState><privateDnsName>a.internal</privateDnsName>"
    b"<privateIpAddress>10.0.0.1</privateIpAddress><ipv6Address>fd00::1</ipv6Address><vpcId>vpc-1</vpcId>"
    b"<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><volumeId>vol-0</volumeId></ebs></item>"
    b"</blockDeviceMapping></item></instancesSet></item></reservationSet></DescribeInstancesResponse>"
)
EC2_ERROR = _XML + (
    b"<Response><Errors><Error><Code>VolumeInUse</Code><Message>vol-1 is already attached to an instance</Message>"
    b"</Error></Errors><RequestID>r</RequestID></Response>"
)
_DNS = b'xmlns="https://route53.amazonaws.com/doc/2013-04-01/"'
RECORDS = _XML + (
    b"<ListResourceRecordSetsResponse %s><ResourceRecordSets><ResourceRecordSet><Name>%s.</Name><Type>A</Type>"
    b"<SetIdentifier>protokube:i-1</SetIdentifier><MultiValueAnswer>true</MultiValueAnswer><TTL>60</TTL>"
    b"<ResourceRecords><ResourceRecord><Value>10.0.0.1</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>"
    b"<ResourceRecordSet><Name>%s.</Name><Type>AAAA</Type><TTL>60</TTL><ResourceRecords><ResourceRecord>"
    b"<Value>fd00::1</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></ResourceRecordSets>"
    b"<IsTruncated>false</IsTruncated><MaxItems>300</MaxItems></ListResourceRecordSetsResponse>"
) % (_DNS, _NAME.encode(), _NAME.encode())
ZONES = (
    _XML
    + (
        b"<ListHostedZonesByNameResponse %s><HostedZones><HostedZone><Id>/hostedzone/Z1</Id><Name>example.com.</Name>"
        b"<CallerReference>r</CallerReference><Config><PrivateZone>false</PrivateZone></Config></HostedZone></HostedZones>"
        b"<IsTruncated>false</IsTruncated><MaxItems>100</MaxItems></ListHostedZonesByNameResponse>"
    )
    % _DNS
)
DNS_ERROR = (
    _XML
    + (
        b"<ErrorResponse %s><Error><Type>Sender</Type><Code>NoSuchHostedZone</Code><Message>no</Message></Error>"
        b"<RequestId>r</RequestId></ErrorResponse>"
    )
    % _DNS
)
_HTML = b"<html><head><title>Log in</title></head><body>Welcome</body></html>"
DOCUMENT = (
    b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 141\r\n\r\n{"instanceId": "i-1", "region": '
    b'"us-east-1", "availabilityZone": "us-east-1a", "accountId": "1", "privateIp": "10.0.0.1", "version": "1"}'
)
ADDRESS = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n192.0.2.1"
LISTING = b"/2/040755/0/0/./4096/\n/2/040755/0/0/../4096/\n/12/040755/0/0/k8s.io/4096/\n/13/100644/0/0/file/7/\n"
SIGNS = b"\x02DEVNAME=/dev/loop0\nUUID=26464824-ba61-5399-8d21-92c8ad37ce2b\nTYPE=ext4\next4 0x438\n"
HELP = b"Kubernetes v1.30.2\n      --node-ip string      the address\n  -v, --v Level\n"
FILES = b"Filename Type Size\n/dev/sda2 partition 1\nnameserver 192.0.2.1\nsearch example.com\n"

Reader = tuple[Callable[[bytes], object], tuple[type[Exception], ...], tuple[bytes, ...]]


def readers(expected: type[Exception]) -> dict[str, Reader]:
    """By name: how bytes are read, the errors that may come of it, inputs that are taken."""
    return {
        "ec2-volumes": (_sure_volumes, (expected,), (VOLUMES, _HTML)),
        "ec2-instances": (_ec2(lambda ec2: ec2.instances(["i-1"])), (expected,), (INSTANCES, _HTML)),
        "ec2-error": (_ec2(lambda ec2: ec2.attach("vol-1", "i-1", "/dev/xvdu"), 400), (expected,), (EC2_ERROR,)),
        "route53-records": (_route53(_records, "Z1"), (expected,), (RECORDS, _HTML)),
        "route53-zones": (_route53(_zones, None), (expected,), (ZONES, _HTML)),
        "route53-error": (_route53(_records, "Z1", 400), (expected,), (DNS_ERROR,)),
        "imds-document": (_imds(Imds.document), (expected,), (DOCUMENT,)),
        "imds-item": (_imds(lambda imds: imds.get("public-ipv4")), (expected,), (ADDRESS,)),
        "dbus": (_dbus, (expected,), (b"loaded", b"t", b"as a", b"p q")),
        "debugfs": (_debugfs, (DebugfsError,), (LISTING,)),
        "signatures": (_signatures, (), (SIGNS,)),
        "kubelet": (_kubelet, (expected,), (HELP,)),
        "machine-files": (_machine, (), (FILES,)),
    }
