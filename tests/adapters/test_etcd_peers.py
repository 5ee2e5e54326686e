"""The peer port of real etcd, and of things that only look like one."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.core.etcd.model import EtcdPeerMember
from protokube.core.etcd.running import PeerAbout
from protokube.errors import ProviderError
from protokube.etcdclient.peers import HttpEtcdPeers, parse_members, parse_version
from tests.lab.etcd_process import START_LIMIT, Etcd, answering, free_port, http


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    assert shutil.which("etcd"), "the package etcd-server brings it"
    member = Etcd(tmp_path)
    try:
        yield member
    finally:
        member.close()


def test_a_member_is_listed_with_its_urls(etcd: Etcd) -> None:
    members = HttpEtcdPeers().members(etcd.peer)
    assert members == [EtcdPeerMember("etcd-a", (etcd.peer,), (etcd.client,))]


def test_a_member_that_never_started_has_no_client_urls(etcd: Etcd) -> None:
    added = "http://127.0.0.1:1"
    etcd.ctl("member", "add", "etcd-b", f"--peer-urls={added}")
    members = HttpEtcdPeers().members(etcd.peer + "/")
    assert {member.peer_urls: (member.name, member.client_urls) for member in members} == {
        (etcd.peer,): ("etcd-a", (etcd.client,)),
        (added,): ("", ()),
    }


def test_a_list_that_comes_in_chunks_is_read_whole(etcd: Etcd) -> None:
    """Above 2 KiB etcd sends no Content-Length."""
    urls = [
        f"http://etcd-with-a-long-name-{number:02}.internal.a-long-cluster-name.example.com:2380"
        for number in range(40)
    ]
    etcd.ctl("member", "add", "etcd-b", f"--peer-urls={','.join(urls)}")
    listed = {member.peer_urls for member in HttpEtcdPeers().members(etcd.peer)}
    assert listed == {(etcd.peer,), tuple(sorted(urls))}


def test_a_peer_tells_its_version_and_its_time(etcd: Etcd) -> None:
    told = HttpEtcdPeers().about(etcd.peer)
    assert told.version == "3.4.23" and told.ahead is not None and abs(told.ahead) < START_LIMIT


@pytest.mark.parametrize("date", ["", "Date: never\r\n", "Date: Thu, 99 Jan 1970 00:00:00 GMT\r\n"])
def test_a_peer_without_a_time_has_none(date: str) -> None:
    head, _, body = http(b'{"etcdserver":"3.5.30"}').partition(b"\r\n")
    with answering(head + b"\r\n" + date.encode() + body) as url:
        assert HttpEtcdPeers().about(url) == PeerAbout("3.5.30", None)


def test_a_clock_that_is_ahead_is_seen() -> None:
    head, _, body = http(b'{"etcdserver":"3.5.30"}').partition(b"\r\n")
    with answering(head + b"\r\nDate: Thu, 01 Jan 2099 00:00:00 GMT\r\n" + body) as url:
        told = HttpEtcdPeers().about(url).ahead
    assert told is not None and told > 1e9


def test_a_version_is_read_strictly() -> None:
    assert parse_version(b'{"etcdserver":"3.6.0-rc.1","etcdcluster":"3.5.0"}') == "3.6.0"
    wrong = (b"{}", b'{"etcdserver":"new"}', b'{"etcdserver":3}', b"[]", b'{"etcdserver":"3.5.%s"}' % (b"9" * 99))
    for body in wrong:
        with pytest.raises(ValueError, match=r"^not (etcd's versions|a version of etcd)"):
            parse_version(body)


def test_the_client_port_of_etcd_is_no_peer_port(etcd: Etcd) -> None:
    with pytest.raises(ProviderError, match=f"^{etcd.client}: HTTP 404 Not Found$"):
        HttpEtcdPeers().members(etcd.client)


def test_every_failure_names_the_peer_and_the_reason() -> None:
    refused = f"http://127.0.0.1:{free_port()}"
    with answering(None) as silent, answering(http(b"no", "503 Service Unavailable")) as broken:
        for url, reason in ((silent, "no answer within 0.3 s"), (broken, "HTTP 503 Service Unavailable")):
            with pytest.raises(ProviderError, match=f"^{url}: {reason}$"):
                HttpEtcdPeers(limit=0.3).members(url)
    with pytest.raises(ProviderError, match=f"^{refused}: .*Errno 111"):
        HttpEtcdPeers().members(refused)


def test_bytes_that_trickle_do_not_stretch_the_limit() -> None:
    stop = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def trickle() -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not stop.wait(0.05):
                connection.sendall(b" ")

    thread = threading.Thread(target=trickle)
    thread.start()
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    try:
        with pytest.raises(ProviderError, match=f"^{url}: no answer within 0.5 s$"):
            HttpEtcdPeers(limit=0.5).members(url)
    finally:
        stop.set()
        thread.join(10)
        server.close()


@pytest.mark.parametrize("url", ["https://127.0.0.1:2380", "http://127.0.0.1", "127.0.0.1:2380", "http://:2380"])
def test_a_url_that_cannot_be_asked_is_a_reason(url: str) -> None:
    with pytest.raises(ProviderError, match=f"^{url}"):
        HttpEtcdPeers().members(url)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        http(b"<html>"),
        http(b"[]"),
        http(b"{}"),
        http(b"\xff"),
        http(b"[" * 100_000),
        b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n[]",
        http(b"[" + b" " * (2 << 20) + b"]"),
        b"HTTP/1.0 200 OK\r\n\r\n[]",
        b"HTTP/1.0 200 OK\r\nX: " + b"x" * (1 << 20),
    ],
)
def test_an_answer_that_is_no_member_list_is_a_reason(answer: bytes) -> None:
    with answering(answer) as url, pytest.raises(ProviderError, match=f"^{url}: "):
        HttpEtcdPeers().members(url)


MEMBER = {"id": 1, "name": "etcd-a", "peerURLs": ["http://a:2380"], "clientURLs": ["http://a:4001"]}


def test_fields_that_later_versions_add_are_no_fault() -> None:
    assert parse_members(json.dumps([{**MEMBER, "isLearner": True}]).encode()) == [
        EtcdPeerMember("etcd-a", ("http://a:2380",), ("http://a:4001",))
    ]


@pytest.mark.parametrize(
    "member",
    [
        "a",
        {**MEMBER, "name": 1},
        {**MEMBER, "peerURLs": []},
        {**MEMBER, "peerURLs": None},
        {**MEMBER, "clientURLs": [1]},
    ],
)
def test_a_member_of_another_shape_is_refused(member: object) -> None:
    with pytest.raises(ValueError, match=r"not a list of members: .* - at `\$\[0\]"):
        parse_members(json.dumps([member]).encode())
