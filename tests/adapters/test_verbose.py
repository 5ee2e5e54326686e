"""What -v adds to the log: what was asked of the world, and what came back. Without it, none of that."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protokube.cloudprovider.aws import AwsCloud
from protokube.config.load import read
from protokube.core.dns.model import ChangeKind, RecordChange
from protokube.dnsprovider.rfc2136 import Rfc2136, load_server
from protokube.dnsprovider.route53 import Route53
from protokube.errors import ProviderError
from protokube.etcdclient.peers import HttpEtcdPeers
from protokube.logs import set_up_logging
from tests.adapters.test_etcd_peers import MEMBER
from tests.adapters.test_systemd import Running
from tests.lab.aws import Lab
from tests.lab.bind import Bind
from tests.lab.disks import LoopDisk, Node
from tests.lab.etcd_process import answering, free_port, http
from tests.lab.route53 import Fault, Route53Server
from tests.lab.systemd_node import SystemdNode

NAME = "api.internal.c1.test"
MANAGER = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]

Said = Callable[..., bool]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Said]:
    """Whether a line of the program's log holds all of some words."""

    def has(*words: str) -> bool:
        return any(all(word in line for word in words) for line in caplog.messages)

    with caplog.at_level(logging.DEBUG, "protokube"):
        yield has


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ["info", "warning"]),
        (("-v",), ["debug", "info", "warning"]),
        (("--once",), ["warning"]),
        (("--once", "-v"), ["debug", "info", "warning"]),
    ],
)
def test_how_much_is_logged(tmp_path: Path, given: tuple[str, ...], expected: list[str]) -> None:
    settings, _ = read([*given, "--log-format", "json", "--root", str(tmp_path)], {})
    program = logging.getLogger("protokube")
    before = program.handlers[:], program.propagate, program.level
    stream = io.StringIO()
    try:
        set_up_logging(settings, stream)
        for say in (program.debug, program.info, program.warning):
            say("word")
    finally:
        program.handlers[:], program.propagate = before[:2]
        program.setLevel(before[2])
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == expected


def test_calls_to_ec2_and_the_metadata_service(lab: Lab, log: Said) -> None:
    lab.volume()
    cloud = AwsCloud()
    cloud.snapshot(volumes=True)
    assert log("EC2 DescribeVolumes", "HTTP 200", "request ")
    assert log("instance metadata: PUT /latest/api/token", "HTTP 200")
    with pytest.raises(ProviderError):
        cloud.attach("vol-00000000")
    assert log("EC2 AttachVolume", "HTTP 400 InvalidVolume.NotFound")
    assert lab.imds._tokens and not any(map(log, lab.imds._tokens)), "tokens are secrets"
    cloud.close()


def test_calls_to_route53(monkeypatch: pytest.MonkeyPatch, log: Said) -> None:
    with Route53Server() as server:
        server.environment(monkeypatch)
        server.create_zone("c1.test")
        route53 = Route53(internal_suffix=lambda: ".internal.c1.test")
        route53.record_sets(frozenset({NAME}))
        assert log("Route 53 ListResourceRecordSets", "HTTP 200")
        server.faults.append(Fault("Throttling", 400))
        with pytest.raises(ProviderError):
            route53.record_sets(frozenset({NAME}))
        assert log("Route 53 ListResourceRecordSets", "HTTP 400 Throttling")
    with pytest.raises(ProviderError):
        route53.record_sets(frozenset({NAME}))
    assert log("route-53.ListResourceRecordSets", "Could not connect")


def test_etcds_peers_each_of_them(log: Said) -> None:
    new = {**MEMBER, "name": ""}
    refused = f"http://127.0.0.1:{free_port()}"
    with answering(http(json.dumps([MEMBER, new]).encode())) as url:
        HttpEtcdPeers().members(url)
    with pytest.raises(ProviderError):
        HttpEtcdPeers().members(refused)
    assert log(f"etcd peer {url}: members etcd-a, (not started)")
    assert log(f"etcd peer {refused}: ", "Errno 111")


@pytest.mark.root
def test_queries_and_updates_of_a_name_server(tmp_path: Path, log: Said) -> None:
    with Bind(tmp_path, ("c1.test",)) as bind:
        client = Rfc2136(load_server(bind.server, bind.keyfile))
        client.record_sets(frozenset({NAME}))
        client.change([RecordChange(ChangeKind.UPSERT, NAME, "A", ("10.0.0.1",), 60, "i-1", True)])
        assert log(f"name server {bind.server}: QUERY {NAME}. A: NXDOMAIN")
        assert log(f"name server {bind.server}: UPDATE c1.test. SOA: NOERROR")


@pytest.mark.root
def test_calls_on_the_system_bus(tmp_path: Path, log: Said) -> None:
    with SystemdNode(tmp_path, files={}) as node, Running(node.bus_address) as running:
        node.run("busctl", "get-property", *MANAGER, "Version")
        running.bus.state("nonesuch.service")
    assert log("system bus: Get", "nonesuch_2eservice", "LoadState", "not-found")


@pytest.mark.root
def test_looks_at_disks(here: Node, tmp_path: Path, log: Said) -> None:
    with LoopDisk(tmp_path / "disk.img") as disk:
        volume = disk.volume()
        here.look(volume)
        assert log(f"disk of {volume.id}: blank")
        disk.write(0, b"x" * 512)
        here.look(volume)
        assert log(f"disk of {volume.id}: not-blank", "byte")
