"""How a cluster is seen: whom a look asks, and what an etcd may call its version."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from protokube.core.etcd.health import ClusterView
from protokube.core.etcd.model import LocalMember
from protokube.core.etcd.running import Alarm, ClusterMember, MemberStatus, PeerAbout
from protokube.core.model import Unknown
from protokube.errors import ProviderError
from protokube.etcdclient.client import EtcdClient
from protokube.etcdclient.own import OwnMembers
from protokube.etcdclient.seen import Seeing
from protokube.etcdclient.transport import Server
from tests.core.etcd_views import URL, status, view


class Member(EtcdClient):
    """Member a, as a view has it."""

    def __init__(self, seen: ClusterView) -> None:
        super().__init__(Server("http://127.0.0.1:1"))
        self._seen = seen

    def status(self) -> MemberStatus:
        assert isinstance(self._seen.status, MemberStatus)
        return self._seen.status

    def members(self) -> tuple[ClusterMember, ...]:
        assert not isinstance(self._seen.members, Unknown)
        return self._seen.members

    def alarms(self) -> tuple[Alarm, ...]:
        return ()

    def values(self, prefix: str) -> dict[str, str]:
        return {}


class Peers:
    """Peer ports that answer at some URLs."""

    def __init__(self, *answering: str) -> None:
        self._answering, self.asked = answering, list[str]()

    def about(self, url: str) -> PeerAbout:
        self.asked.append(url)
        if url not in self._answering:
            raise ProviderError(f"{url}: no answer")
        return PeerAbout("3.5.30", 0.0)


def test_a_member_without_a_known_machine_is_asked_at_its_listed_url() -> None:
    peers = Peers(URL.format("b"))
    seen = Seeing("etcd-a", Member(view("abc")), peers.about).view({"etcd-c": ["10.0.0.3:2380"]})
    assert seen.answers("etcd-b") and not seen.answers("etcd-c")
    assert sorted(peers.asked) == ["http://10.0.0.3:2380", URL.format("b")]


def test_a_member_that_is_silent_at_its_listed_url_is_silent() -> None:
    seen = Seeing("etcd-a", Member(view("ab")), Peers().about).view({})
    told = seen.peers["etcd-b"]
    assert isinstance(told, Unknown) and "no answer" in told.reason


@pytest.mark.parametrize(("called", "release"), [("3.6.0-rc.1", "3.6.0"), ("3.5.30", "3.5.30")])
def test_our_own_member_tells_its_release(monkeypatch: pytest.MonkeyPatch, called: str, release: str) -> None:
    assert served(monkeypatch, called) == release


@pytest.mark.parametrize("called", ["3.5.9+k3s1", "", "3.6", "latest"])
def test_a_version_that_is_none_is_an_error_of_the_look(monkeypatch: pytest.MonkeyPatch, called: str) -> None:
    with pytest.raises(ProviderError, match="not a version of etcd"):
        served(monkeypatch, called)


def served(monkeypatch: pytest.MonkeyPatch, version: str) -> str:
    """The version of our member, which calls it so."""
    member = Member(replace(view("a"), status=status(version)))
    monkeypatch.setattr(OwnMembers, "_client", lambda _own, _member: member)
    return OwnMembers(Path("/nowhere")).served(LocalMember("main", "etcd-a", "http://127.0.0.1:1", 0)).version
