"""Whose turn it is when a cluster moves to TLS, and when members restart for other authorities."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protokube.core.disks.identity import Identity
from protokube.core.etcd.migration import MovePeer, Restart, Stage, next_step, stage_of
from protokube.core.etcd.model import EtcdPeerMember, MountedMember, PeerAnswers, ServedEtcd
from protokube.core.etcd.restarts import (
    Trust,
    has_restarted,
    lagging,
    may_restart,
    restart_due,
    telling_due,
    trust_of,
)
from protokube.core.etcd.rolling import NotYet, Turn
from protokube.core.etcd.running import ClusterMember
from protokube.core.etcd.tls import member_certificates
from protokube.core.model import Rejected, Unknown
from protokube.core.pki.model import Certificate
from tests.core.test_etcd_tls import SUFFIX
from tests.core.test_etcd_tls import member as mounted

ALL = {"etcd-a", "etcd-b", "etcd-c"}
PLAIN, MOVING, SECURE = ("http", "http"), ("https", "http"), ("https", "https")
SILENT = Unknown("nobody answers")


def entry(letter: str, schemes: tuple[str, str], *, learner: bool = False) -> ClusterMember:
    peer, client = schemes
    name = f"etcd-{letter}"
    return ClusterMember(ord(letter), name, (f"{peer}://{name}:2380",), (f"{client}://{name}:4001",), learner)


def served(*schemes: tuple[str, str]) -> ServedEtcd:
    return ServedEtcd(tuple(entry(letter, one) for letter, one in zip("abc", schemes, strict=False)))


def step(letter: str, seen: ServedEtcd | Unknown, heard: set[str] | None = None) -> object:
    name = f"etcd-{letter}"
    return next_step(name, seen, SILENT, (ALL if heard is None else heard) - {name})


@pytest.mark.parametrize(("schemes", "stage"), [(PLAIN, Stage.PLAIN), (MOVING, Stage.MOVING), (SECURE, Stage.SECURE)])
def test_the_member_list_shows_where_a_member_stands(schemes: tuple[str, str], stage: Stage) -> None:
    assert stage_of(entry("a", schemes)) is stage


def test_a_member_that_never_started_has_not_moved() -> None:
    assert stage_of(ClusterMember(1, "", ("https://x:2380",))) is Stage.MOVING


def test_members_go_by_their_names_and_wait_until_the_one_before_takes_part() -> None:
    way = [(PLAIN, PLAIN, PLAIN), (MOVING, PLAIN, PLAIN), (SECURE, PLAIN, PLAIN), (SECURE, MOVING, PLAIN)]
    assert isinstance(step("a", served(*way[0])), MovePeer)
    assert step("b", served(*way[0])) == NotYet("etcd-a moves to TLS first")
    assert isinstance(step("a", served(*way[1])), Restart)
    assert step("b", served(*way[1])) == step("c", served(*way[1])) == NotYet("etcd-a moves to TLS first")
    assert isinstance(step("b", served(*way[2])), MovePeer)
    assert step("c", served(*way[3])) == NotYet("etcd-b moves to TLS first")
    assert step("c", served(PLAIN, MOVING, PLAIN)) == NotYet("etcd-b moves to TLS first"), "whoever began goes first"


def test_nobody_stops_while_another_one_is_silent() -> None:
    for seen in (served(PLAIN, PLAIN, PLAIN), served(MOVING, PLAIN, PLAIN)):
        assert step("a", seen, {"etcd-b"}) == NotYet("etcd-c must answer first")


def test_a_single_member_waits_for_nobody() -> None:
    assert step("a", served(PLAIN), set()) == MovePeer(ord("a"), ("http://etcd-a:2380",))
    assert isinstance(step("a", served(MOVING), set()), Restart)


def test_while_there_is_a_learner_no_url_is_changed() -> None:
    """`member update` promotes it silently before 3.5.31 and 3.6.12 (etcd-io/etcd 21694)."""
    for odd in (entry("c", PLAIN, learner=True), ClusterMember(9, "", ("http://etcd-c:2380",))):
        seen = ServedEtcd((entry("a", PLAIN), entry("b", PLAIN), odd))
        refused = step("a", seen)
        assert isinstance(refused, Rejected) and refused.rule == "etcd/tls-mixed"
        assert isinstance(step("a", ServedEtcd((entry("a", MOVING), entry("b", PLAIN), odd)), ALL | {""}), Restart)


def test_without_quorum_it_moves_only_where_the_others_list_it_with_tls_already() -> None:
    """Then it can't be reached as it is, and a restart with TLS is what brings it back."""
    none = Unknown("no leader")
    for scheme, expected in (("http", NotYet), ("https", Restart)):
        listed = (EtcdPeerMember("etcd-a", (f"{scheme}://etcd-a:2380",), ()),)
        assert isinstance(next_step("etcd-a", none, PeerAnswers({"b": listed}), ALL), expected)
    assert isinstance(next_step("etcd-a", none, SILENT, set()), NotYet)


NOW = 1_800_000_000.0
OLD, BOTH = Trust("old1 old2", "old1 old2", False), Trust("new1+old1 old2", "old1 old2", True)
NEW = Trust("new1+old1 old2", "new1 old2", True)


def certificates(*trusted: str, issuer: str = "old") -> list[Certificate]:
    wanted = member_certificates(mounted(), SUFFIX)
    return [Certificate(one, "1", 0.0, 1.0, issuer, 1.0, trusted or (issuer,)) for one in wanted]


def test_trust_names_each_authority_and_the_order_of_two_doesn_t_matter() -> None:
    assert trust_of(certificates("a", "b")).trusted == trust_of(certificates("b", "a")).trusted == "a+b a+b"
    assert trust_of(certificates("a", "b")).several and not trust_of(certificates()).several
    assert trust_of(certificates()).told == "old old/old old"


def with_trust(text: str) -> MountedMember:
    one = mounted(True, data=True)
    manifest = one.manifest.replace("value: ''", f"value: {text}")
    return replace(one, contents=replace(one.contents, texts={one.template.manifest: manifest}))


def told(*texts: str | None) -> ServedEtcd:
    known = {f"etcd-{letter}": text for letter, text in zip("abc", texts, strict=True) if text is not None}
    return ServedEtcd(tuple(entry(letter, SECURE) for letter in "abc"), known)


def test_a_member_restarts_when_it_is_to_trust_others_than_its_process_was_started_with() -> None:
    member = with_trust("old1 old2")
    assert not restart_due(member, OLD) and restart_due(member, BOTH)
    nameless = mounted(True, data=True)
    assert not restart_due(nameless, OLD), "a manifest from before authorities were named in it"
    assert restart_due(nameless, BOTH)


def test_members_restart_by_their_names_as_far_as_they_have_told() -> None:
    ways = (
        (told(None, None, None), "a"),
        (told(BOTH.told, OLD.told, None), "b"),
        (told(NEW.told, BOTH.told, OLD.told), "c"),
    )
    for seen, first in ways:
        for letter in "abc":
            turn = may_restart(f"etcd-{letter}", BOTH, seen, ALL - {f"etcd-{letter}"}, now=NOW)
            if letter < first:
                continue  # it has restarted
            assert turn == (Turn() if letter == first else NotYet(f"etcd-{first} restarts first"))
    assert may_restart("etcd-a", BOTH, told(None, None, None), {"etcd-b"}, now=NOW) == NotYet(
        "etcd-c must answer first"
    )
    assert isinstance(may_restart("etcd-a", BOTH, Unknown("no leader"), ALL, now=NOW), NotYet)
    fresh = may_restart("etcd-a", replace(BOTH, since=NOW - 1), told(None, None, None), ALL, now=NOW)
    assert fresh == NotYet("its certificates were issued a moment ago")


@pytest.mark.parametrize(
    ("started", "restarted"), [(None, False), (NOW - 60, False), (NOW - 11, True), (NOW - 5, True)]
)
def test_a_process_that_is_younger_than_its_manifest_has_restarted(started: float | None, restarted: bool) -> None:
    one = with_trust("old1 old2")
    seen = ServedEtcd((), {}, started)
    written = replace(one, contents=replace(one.contents, mtimes={one.template.manifest: int((NOW - 10) * 1e9)}))
    assert has_restarted(written, seen, NOW) is restarted
    ahead = replace(one, contents=replace(one.contents, mtimes={one.template.manifest: int((NOW + 99) * 1e9)}))
    assert has_restarted(ahead, seen, NOW) is (started is not None), "a clock that was ahead proves nothing"


def test_something_is_told_only_once_authorities_were_replaced() -> None:
    def identity(text: str | None) -> Identity:
        return Identity("c", "main", "a", "v", "u", None, True, True, text)

    before, after = with_trust("old1 old2"), with_trust("new1+old1 old2")
    assert not telling_due(before, identity(None), OLD)
    assert not telling_due(before, identity(None), BOTH), "it restarts first"
    assert telling_due(after, identity(None), BOTH) and not telling_due(after, identity(BOTH.told), BOTH)
    assert telling_due(after, identity(BOTH.told), NEW), "another issuer is told without a restart"


def test_who_lags_is_told_by_what_all_have_told() -> None:
    assert lagging(BOTH, told(BOTH.told, OLD.told, None)) == ["etcd-b", "etcd-c"]
    assert lagging(NEW, told(NEW.told, NEW.told, NEW.told)) == []
