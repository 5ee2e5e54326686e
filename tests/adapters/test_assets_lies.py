"""Every lie of a server ends in a clear error and the next mirror, and the next run ends well."""

from __future__ import annotations

import hashlib
import io
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from msgspec.structs import replace

from nodeup.assets.cache import Cache, Source
from nodeup.assets.errors import AssetError
from nodeup.assets.fetch import Fetcher
from nodeup.assets.progress import Advance, Lines
from protokube.core.model import MIB
from protokube.core.node.assets import Asset
from protokube.together import start
from tests.lab.asset_files import SHORT, Machine, no_trust, restarted
from tests.lab.lying_server import LyingServer, certificate

CONTENT = os.urandom(100_000)
TARGET = "/usr/local/bin/kubelet"

LIES = {
    "wrong": ("asset/hash", r"wrong SHA-256 \(expected [0-9a-f]{64}, got [0-9a-f]{64}\) of 100000 bytes"),
    "page": ("asset/hash", "wrong SHA-256 .* a web page, perhaps of a login"),
    "truncated": ("asset/unreachable", "the connection ended after 50000 of 100000 bytes"),
    "cut-chunks": ("asset/unreachable", "the connection ended too early"),
    "always-416": ("asset/unreachable", "it answers 416"),
    "500": ("asset/unreachable", "it answers 500 Internal Server Error"),
    "404": ("asset/unreachable", "it answers 404 Not Found"),
    "silent": ("asset/unreachable", "does not answer, or stopped answering"),
    "hang": ("asset/unreachable", "does not answer, or stopped answering"),
    "trickle": ("asset/unreachable", r"only \d+ bytes in 0 s \(expected 10000 a second\)"),
    "trickled-headers": ("asset/unreachable", r"only \d+ bytes in 0 s \(expected 10000 a second\)"),
    "circle": ("asset/unreachable", "redirected in a circle, back to http://127.0.0.1:.*/circle/kubelet"),
    "far": ("asset/unreachable", "redirected more than 5 times"),
    "to-file": ("asset/unreachable", "redirected to 'file:///etc/shadow', which is no URL of a file on the web"),
    "nowhere": ("asset/unreachable", "redirected in a circle"),
    "other-half": ("asset/hash", r"wrong SHA-256 \(expected [0-9a-f]{64}, got [0-9a-f]{64}\) of the parts of two"),
    "endless-length": ("asset/unreachable", "its Content-Length has 5000 digits"),
    "half-bracket": ("asset/unreachable", r"redirected to 'http://\[x', which is no URL"),
    "empty-label": ("asset/unreachable", "redirected to 'http://a..b/kubelet', which is no URL of a file on the web"),
    "huge": ("asset/space", "1152921504606846976 bytes where .* are free"),
    "garbage": ("asset/unreachable", "what it answers is not HTTP"),
}
SERVED = ["right", "cut-once", "chunked", "changed", "mixed", "shifted", "no-ranges", "redirect", "packed"]


@pytest.fixture
def server() -> Iterator[LyingServer]:
    with LyingServer(CONTENT) as one:
        yield one


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def kubelet(server: LyingServer, *urls: str) -> Asset:
    return Asset(urls, server.sha256, path=TARGET)


def refusal(machine: Machine, asset: Asset) -> AssetError:
    with pytest.raises(AssetError) as caught:
        machine.converge(asset)
    return caught.value


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_ends_in_a_clear_error_and_the_next_run_ends_well(
    server: LyingServer, machine: Machine, lie: str
) -> None:
    rule, message = LIES[lie]
    refused = refusal(machine, kubelet(server, server.url(lie)))
    assert refused.rule == rule
    assert str(refused).startswith(f"{rule}: {TARGET}: {server.url(lie)}: ")
    assert re.search(message, str(refused)), refused
    assert machine.below() == set()
    again = restarted(machine)
    assert again.converge(kubelet(server, server.url("right"))) == ["fetch-asset", "install-asset"]
    assert machine.path(TARGET).read_bytes() == CONTENT


@pytest.mark.parametrize("lie", LIES)
def test_the_next_mirror_serves_it(server: LyingServer, machine: Machine, lie: str) -> None:
    asset = kubelet(server, server.url(lie), server.url("right"))
    assert machine.converge(asset) == ["fetch-asset", "install-asset"]
    assert machine.path(TARGET).read_bytes() == CONTENT
    assert f"kubelet: {server.url(lie)}: " in machine.log.getvalue()
    assert sorted(one.name for one in machine.cache.iterdir()) == [asset.sha256]


@pytest.mark.parametrize("way", SERVED)
def test_what_can_be_mended_is_fetched_from_the_same_mirror(server: LyingServer, machine: Machine, way: str) -> None:
    assert machine.converge(kubelet(server, server.url(way))) == ["fetch-asset", "install-asset"]
    assert machine.path(TARGET).read_bytes() == CONTENT
    assert machine.path(TARGET).stat().st_mode & 0o7777 == 0o755


def test_a_cut_is_resumed_with_the_version_that_was_cut(server: LyingServer, machine: Machine) -> None:
    machine.converge(kubelet(server, server.url("cut-once")))
    assert server.ranges() == ["", "bytes=50000-"]
    assert server.requests[1][1]["If-Range"] == '"one"'


def test_a_range_that_was_not_asked_for_is_not_taken(server: LyingServer, machine: Machine) -> None:
    machine.converge(kubelet(server, server.url("shifted")))
    assert server.ranges() == ["", "bytes=50000-", ""]
    assert "don't fit" not in machine.log.getvalue()


def test_a_later_run_goes_on_where_an_earlier_one_stopped(server: LyingServer, machine: Machine) -> None:
    asset = kubelet(server, server.url("hang"))
    refusal(machine, asset)
    server.requests.clear()
    refusal(restarted(machine), asset)
    assert server.ranges() == ["bytes=50000-"]


def test_the_rest_is_never_asked_of_another_mirror(server: LyingServer, machine: Machine) -> None:
    machine.converge(kubelet(server, server.url("hang"), server.url("right")))
    assert server.ranges() == ["", ""]


def test_a_range_that_cannot_be_had_begins_from_the_start(server: LyingServer, machine: Machine) -> None:
    """416 in a later run: the file there has become shorter than the part."""
    asset = kubelet(server, server.url("unsatisfied"))
    sha256 = asset.sha256
    refusal(machine, kubelet(server, server.url("hang")))
    source = machine.cache / f"{sha256}.part.source"
    source.write_bytes(msgspec.json.encode(Source.of(asset.urls[0], '"one"')))
    server.requests.clear()
    assert restarted(machine).converge(asset) == ["fetch-asset", "install-asset"]
    assert server.ranges() == ["bytes=50000-", ""]


def test_a_part_that_is_whole_needs_no_request(server: LyingServer, machine: Machine) -> None:
    asset = kubelet(server, server.url("right"))
    machine.cache.mkdir()
    (machine.cache / f"{asset.sha256}.part").write_bytes(CONTENT)
    machine.converge(asset)
    assert server.requests == []


def test_a_signature_is_shown_nowhere(server: LyingServer, machine: Machine) -> None:
    signed = server.url("500") + "?X-Amz-Signature=secret"
    refused = refusal(machine, kubelet(server, signed))
    machine.converge(kubelet(server, server.url("redirect")))
    kept = b"".join(one.read_bytes() for one in machine.cache.iterdir())
    assert "secret" not in f"{refused}{machine.log.getvalue()}" and b"secret" not in kept
    assert any("signature=secret" in path for path, _ in server.requests)


def test_an_endless_answer_stops_where_the_reserve_begins(server: LyingServer, tmp_path: Path) -> None:
    info = os.statvfs(tmp_path)
    free = info.f_bavail * info.f_frsize
    machine = Machine(tmp_path, replace(SHORT, reserve=free - 24 * MIB, window=60.0))
    refused = refusal(machine, kubelet(server, server.url("endless")))
    assert refused.rule == "asset/space"


def test_an_archive_of_another_host_is_not_trusted(tmp_path: Path) -> None:
    other = certificate(tmp_path / "other.pem", "other.example")
    machine = Machine(tmp_path, trust=lambda: ssl.create_default_context(cafile=other))
    with LyingServer(CONTENT, other) as server:
        refused = refusal(machine, kubelet(server, server.url("right")))
        assert refused.rule == "asset/unreachable"
        assert "its certificate is not trusted: IP address mismatch" in str(refused)
        assert "see the URL, and this machine's clock" in str(refused)
        unknown = refusal(Machine(tmp_path), kubelet(server, server.url("right")))
        assert "install ca-certificates" in str(unknown)
        assert server.requests == []


def test_a_trusted_certificate_serves(tmp_path: Path) -> None:
    own = certificate(tmp_path / "own.pem", "127.0.0.1")
    machine = Machine(tmp_path, trust=lambda: ssl.create_default_context(cafile=own))
    with LyingServer(CONTENT, own) as server:
        assert machine.converge(kubelet(server, server.url("right"))) == ["fetch-asset", "install-asset"]


@pytest.mark.root
@pytest.mark.parametrize("address", [("::1", 80), ("::1", 443), ("::1", 8080), ("127.0.0.1", 443)])
def test_every_form_of_a_host_is_named_to_the_server_as_it_is_in_the_url(
    tmp_path: Path, address: tuple[str, int]
) -> None:
    own = certificate(tmp_path / "own.pem", address[0]) if address[1] == 443 else None
    machine = Machine(tmp_path, trust=lambda: ssl.create_default_context(cafile=own))
    with LyingServer(CONTENT, own, address) as server:
        assert machine.converge(kubelet(server, server.url("right"))) == ["fetch-asset", "install-asset"]
        assert server.requests[0][1]["Host"] == urlsplit(server.url("right")).netloc


def test_a_port_without_tls_is_named(server: LyingServer, machine: Machine) -> None:
    refused = refusal(machine, kubelet(server, server.url("right").replace("http:", "https:")))
    assert "TLS fails: WRONG_VERSION_NUMBER" in str(refused) or "TLS fails" in str(refused)


def test_nobody_listens(machine: Machine, server: LyingServer) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/kubelet"
        assert "no connection: Connection refused" in str(refusal(machine, kubelet(server, url)))


def test_an_unknown_name(machine: Machine, server: LyingServer) -> None:
    refused = refusal(machine, kubelet(server, "http://mirror.invalid/kubelet"))
    assert "its name is not found" in str(refused) and refused.rule == "asset/unreachable"


def test_every_mirrors_reason_is_told(server: LyingServer, machine: Machine) -> None:
    refused = refusal(machine, kubelet(server, server.url("500"), server.url("wrong"), server.url("404")))
    assert refused.rule == "asset/hash"
    assert "it answers 500" in str(refused) and "wrong SHA-256" in str(refused) and "it answers 404" in str(refused)


class Pairs(Lines):
    """Lets a download go on once another one runs beside it; `most` ran side by side."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.open: list[str] = []
        self.most = 0
        self.second = threading.Barrier(2)

    @contextmanager
    def download(self, name: str, url: str, done: int, total: int | None) -> Iterator[Advance]:
        self.open.append(name)
        self.second.wait(30)
        self.most = max(self.most, len(self.open))
        self.second.wait(30)
        yield lambda _: None
        self.open.remove(name)


def test_only_so_many_come_side_by_side(tmp_path: Path) -> None:
    contents = [os.urandom(1000) for _ in range(4)]
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
    limits = replace(SHORT, together=2)
    pairs = Pairs()
    fetcher = Fetcher(Cache(str(tmp_path / "cache"), limits), limits, no_trust, pairs)
    calls = []
    for number, content in enumerate(contents):
        sha256 = hashlib.sha256(content).hexdigest()
        asset = Asset((f"file://{tmp_path}/{number}",), sha256, path=f"/bin/{number}")
        calls.append(start(asset.name, partial(fetcher.fetch, asset)))
    for call in calls:
        call.result(30)
    assert pairs.most == 2


def test_two_that_want_one_file_fetch_it_once(server: LyingServer, machine: Machine) -> None:
    both = [Asset((server.url("right"),), server.sha256, path=f"/bin/{number}") for number in range(2)]
    begin = threading.Barrier(2)

    def fetch(asset: Asset) -> None:
        begin.wait(30)
        machine.files.fetch(asset)

    for call in [start(asset.name, partial(fetch, asset)) for asset in both]:
        call.result(30)
    assert len(server.requests) == 1


def test_a_mirror_that_is_too_slow_for_one_run_is_left_and_resumed_by_the_next(
    tmp_path: Path,
) -> None:
    with LyingServer(CONTENT * 30) as server:
        asset = kubelet(server, server.url("right"))
        refused = refusal(Machine(tmp_path, replace(SHORT, whole=-1.0)), asset)
        assert refused.later and "too slow for one run" in str(refused)
        assert Machine(tmp_path).converge(asset) == ["fetch-asset", "install-asset"]
        assert server.ranges()[-1].startswith("bytes=")
