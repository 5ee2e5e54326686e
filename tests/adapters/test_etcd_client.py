"""etcd's client port by its JSON gateway: a real etcd, and things that only look like one."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protokube.core.controlplane.turns import GiveApiTurnBack, TakeApiTurn
from protokube.core.etcd.actions import GiveTurnBack, TakeTurn
from protokube.core.etcd.model import LocalMember
from protokube.core.etcd.running import NOSPACE, Alarm, ClusterMember
from protokube.errors import EtcdRefusedError, OutcomeUnknownError, ProviderError
from protokube.etcdclient.client import EtcdClient
from protokube.etcdclient.own import OwnMembers
from protokube.etcdclient.transport import Server
from protokube.etcdcommand.look import take_back_alarms
from tests.lab.etcd_process import Etcd, answering, free_port, http
from tests.lab.etcd_releases import BINARIES
from tests.lab.trial import until

QUOTA = 256 * 1024


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    assert shutil.which("etcd"), "the package etcd-server brings it"
    member = Etcd(tmp_path, quota=QUOTA)
    try:
        yield member
    finally:
        member.close()


def client(url: str, limit: float = 30.0) -> EtcdClient:
    return EtcdClient(Server(url), limit)


def test_a_member_tells_its_status(etcd: Etcd) -> None:
    told = client(etcd.client).status()
    assert told.version == "3.4.23" and told.leads and not told.learner
    assert told.size >= told.in_use > 0 and told.quota is None and told.errors == ()
    assert told.committed >= told.applied > 0
    assert client(etcd.client).quota() == QUOTA


def test_a_learner_is_added_and_removed_and_not_promoted_before_it_ran(etcd: Etcd) -> None:
    asked = client(etcd.client)
    (own,) = asked.members()
    assert own == ClusterMember(asked.status().member_id, "etcd-a", (etcd.peer,), (etcd.client,))
    added = asked.add_learner("http://127.0.0.1:1")
    assert added.learner and not added.started and added.name == ""
    assert set(asked.members()) == {own, added}
    with pytest.raises(EtcdRefusedError, match="can only promote a learner member which is in sync with leader"):
        asked.promote(added.id)
    with pytest.raises(EtcdRefusedError, match="too many learner members"):
        asked.add_learner("http://127.0.0.1:2")
    asked.remove(added.id)
    assert asked.members() == (own,)
    with pytest.raises(EtcdRefusedError, match="member not found") as refused:
        asked.remove(added.id)
    assert refused.value.code == 5


def test_a_member_gets_another_peer_url(etcd: Etcd) -> None:
    asked = client(etcd.client)
    (own,) = asked.members()
    asked.update(own.id, "http://127.0.0.2:1")
    (after,) = asked.members()
    assert after.id == own.id and after.peer_urls == ("http://127.0.0.2:1",)


def test_a_full_database_raises_an_alarm_and_is_made_room_in(etcd: Etcd) -> None:
    """NOSPACE as it comes: then compact, defragment, disarm."""
    asked = client(etcd.client)
    with pytest.raises(subprocess.CalledProcessError):
        for _ in range(500):
            etcd.ctl("put", "key", "x" * 10_000)
    own = asked.status()
    assert asked.alarms() == (Alarm(own.member_id, NOSPACE),)
    assert own.size > QUOTA // 2
    assert any("NOSPACE" in one for one in own.errors)
    asked.compact(asked.keys().revision)
    asked.defragment()
    after = asked.status()
    assert after.size < own.size
    asked.disarm(Alarm(own.member_id, NOSPACE))
    assert asked.alarms() == ()
    etcd.ctl("put", "key", "again")


def test_the_alarm_of_a_member_that_is_no_longer_listed_is_taken_back(etcd: Etcd) -> None:
    asked = client(etcd.client)
    gone = Alarm(2**63 + 9, NOSPACE)
    body = json.dumps({"action": "ACTIVATE", "memberID": str(gone.member_id), "alarm": gone.kind}).encode()
    urllib.request.urlopen(f"{etcd.client}/v3/maintenance/alarm", body, timeout=120).close()
    assert asked.alarms() == (gone,)
    assert take_back_alarms(asked) == [gone]
    assert asked.alarms() == () and take_back_alarms(asked) == []


def test_a_snapshot_is_what_etcdctl_would_save(etcd: Etcd, tmp_path: Path) -> None:
    for number in range(20):
        etcd.ctl("put", f"key/{number}", "x" * 5_000)
    taken = tmp_path / "taken.db"
    with taken.open("wb") as out:
        told = client(etcd.client).snapshot(out)
    content = taken.read_bytes()
    assert told.size == len(content) and told.sha256 == hashlib.sha256(content).hexdigest()
    status = subprocess.run(
        ["etcdctl", "snapshot", "status", str(taken), "-w", "json"],
        check=True,
        capture_output=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"},
    )
    assert json.loads(status.stdout)["totalKey"] >= 20
    assert client(etcd.client).keys().count == 20


def line(blob: bytes) -> bytes:
    return json.dumps({"result": {"blob": b64encode(blob).decode()}}).encode() + b"\n"


PAGE = b"p" * 512


@pytest.mark.parametrize(
    "body",
    [
        b"",
        line(PAGE),
        line(PAGE) + line(b"h" * 32),
        line(PAGE[1:]) + line(hashlib.sha256(PAGE[1:]).digest()),
        line(PAGE) + line(hashlib.sha256(PAGE).digest())[:-8],
        line(PAGE) + b'{"error":{"message":"etcdserver: stopped","code":14}}\n',
        line(PAGE) + b"{}\n",
        b'{"result":{"blob":"%%%"}}\n',
    ],
)
def test_a_snapshot_that_breaks_off_or_lies_is_refused(body: bytes) -> None:
    with answering(http(body)) as url, pytest.raises(ProviderError, match=f"^{url}: "):
        client(url).snapshot(io.BytesIO())


def test_a_snapshot_is_right_however_it_is_cut() -> None:
    content = PAGE * 3
    whole = content + hashlib.sha256(content).digest()
    for step in (1, 7, 31, 32, 33, 512, len(whole)):
        body = b"".join(line(whole[at : at + step]) for at in range(0, len(whole), step))
        out = io.BytesIO()
        with answering(http(body)) as url:
            assert client(url).snapshot(out).sha256 == hashlib.sha256(whole).hexdigest()
        assert out.getvalue() == whole


def test_a_full_disk_is_named_and_not_the_server() -> None:
    problem = pytest.raises(ProviderError, match=r"^write the snapshot: No space left on device")
    with answering(http(line(PAGE))) as url, Path("/dev/full").open("wb", buffering=0) as out, problem:
        client(url).snapshot(out)


ASKS: list[Callable[[EtcdClient], object]] = [
    EtcdClient.status,
    EtcdClient.members,
    EtcdClient.keys,
    EtcdClient.alarms,
    lambda asked: asked.add_learner("http://127.0.0.1:1"),
]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        http(b"<html>"),
        http(b"[]"),
        http(b'{"header":[],"alarms":1}'),
        http(b'{"header":{"member_id":-1},"version":3,"members":[],"member":{},"alarms":[{}]}'),
        http(b'{"header":{"member_id":"x"},"members":[{"ID":"x"}],"member":{"ID":"1"},"alarms":[{"memberID":"x"}]}'),
        http(b"[" * 100_000),
        http(b"{" + b" " * (2 << 20) + b"}"),
        http(b"no", "503 Service Unavailable"),
    ],
)
def test_an_answer_that_is_none_of_etcds_is_a_reason(answer: bytes) -> None:
    for ask in ASKS:
        with answering(answer) as url, pytest.raises(ProviderError, match=f"^{url}: "):
            ask(client(url))


def test_a_call_that_hangs_ends_and_tells_whether_it_may_have_had_an_effect() -> None:
    with answering(None) as url:
        with pytest.raises(ProviderError, match=f"^{url}: no answer within 0.3 s$") as failed:
            client(url, 0.3).status()
        assert not isinstance(failed.value, OutcomeUnknownError)
        with pytest.raises(OutcomeUnknownError, match=f"^{url}: no answer within 0.3 s$"):
            client(url, 0.3).remove(1)
    refused = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ProviderError, match=f"^{refused}: .*Errno 111") as failed:
        client(refused).remove(1)
    assert not isinstance(failed.value, OutcomeUnknownError), "nothing was sent"


def test_what_etcd_refuses_is_said_in_its_own_words() -> None:
    told = b'{"error":"etcdserver: unhealthy cluster","message":"etcdserver: unhealthy cluster","code":14}'
    with (
        answering(http(told, "503 Service Unavailable")) as url,
        pytest.raises(EtcdRefusedError, match=f"^{url}: etcdserver: unhealthy cluster$") as refused,
    ):
        client(url).remove(7)
    assert (refused.value.reason, refused.value.code) == ("etcdserver: unhealthy cluster", 14)


@pytest.mark.parametrize("binaries", BINARIES.values(), ids=BINARIES)
def test_a_key_that_one_member_has_is_given_to_nobody_else_and_is_forgotten_by_itself(
    tmp_path: Path, binaries: Path
) -> None:
    """The turn to restart, with etcd of three versions."""
    member = Etcd(tmp_path, binaries=binaries)
    try:
        asked, key = client(member.client), "protokube/turn"
        assert asked.replace(key, "", "etcd-a 1", 60)
        assert not asked.replace(key, "", "etcd-b 2", 60) and not asked.delete(key, "etcd-b 2")
        assert asked.values("protokube/") == {"turn": "etcd-a 1"}
        assert asked.replace(key, "etcd-a 1", "etcd-a 5", 60) and asked.delete(key, "etcd-a 5")
        assert asked.values("protokube/") == {}
        assert asked.replace(key, "", "etcd-b 9", 2)
        until("etcd forgets it", lambda: asked.values("protokube/") == {}, 120.0)
    finally:
        member.close()


def test_members_and_api_servers_take_turns_by_keys_of_their_own(tmp_path: Path) -> None:
    member = Etcd(tmp_path)
    try:
        own, at = OwnMembers(tmp_path), LocalMember("main", "etcd-a", member.client, 0)
        own.take_turn(TakeApiTurn(at, "", "n1 1"))
        own.take_turn(TakeTurn(at, "", "etcd-a 2"))
        assert (own.served(at).turn, own.served(at).api_turn) == ("etcd-a 2", "n1 1")
        own.take_turn(TakeApiTurn(at, "", "n2 3"))  # another node was faster
        own.give_back(GiveApiTurnBack(at, "n2 3"))
        assert own.served(at).api_turn == "n1 1"
        own.take_turn(TakeApiTurn(at, "n1 1", "n1 60"))
        own.give_back(GiveTurnBack(at, "etcd-a 2"))
        assert (own.served(at).turn, own.served(at).api_turn) == ("", "n1 60")
        own.give_back(GiveApiTurnBack(at, "n1 60"))
        assert own.served(at).api_turn == ""
    finally:
        member.close()
