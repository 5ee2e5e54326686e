"""Upgrades of running clusters: whose turn it is, and what bars the way."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from protokube.core.etcd.model import NotListening, ServedEtcd
from protokube.core.etcd.rolling import NotYet, Turn
from protokube.core.etcd.running import NOSPACE, Alarm, ClusterMember
from protokube.core.etcd.upgrade import Upgrade, may_change
from protokube.core.model import Rejected, Unknown
from tests.core.etcd_views import listed


def served(version: str, letters: str = "abc") -> ServedEtcd:
    """What the member of a node serves, which runs a version."""
    members = tuple(listed(number, letter) for number, letter in enumerate(letters, 1))
    return ServedEtcd(members, version=version)


def asked(letter: str, running: Mapping[str, str], wanted: str | None) -> Turn | NotYet | Rejected:
    """What the node of a member decides; `running` are the versions of all members that answer."""
    others = {f"etcd-{one}": version for one, version in running.items() if one != letter}
    return may_change(Upgrade(f"etcd-{letter}", wanted), served(running[letter]), others)


def test_members_go_one_after_the_other_by_name() -> None:
    running = dict.fromkeys("abc", "3.4.23")
    for letter in "abc":
        decided = {one: asked(one, running, "3.5.30") for one in "abc" if running[one] != "3.5.30"}
        assert [one for one, answer in decided.items() if isinstance(answer, Turn)] == [letter]
        assert all(f"etcd-{letter} comes first" in one.reason for one in decided.values() if isinstance(one, NotYet))
        running[letter] = "3.5.30"


def test_never_two_at_once_whatever_runs() -> None:
    for versions in itertools.product(["3.4.23", "3.5.16", "3.5.30"], repeat=3):
        running = dict(zip("abc", versions, strict=True))
        for wanted in ("3.4.23", "3.5.30"):
            turns = [one for one in "abc" if running[one] != wanted and isinstance(asked(one, running, wanted), Turn)]
            assert len(turns) <= 1


def test_all_members_must_serve() -> None:
    whole = served("3.4.23")
    others = {"etcd-b": "3.4.23", "etcd-c": "3.4.23"}
    a = Upgrade("etcd-a", "3.5.30")
    assert isinstance(may_change(a, whole, others), Turn)
    silent = may_change(a, whole, {"etcd-b": "3.4.23"})
    assert isinstance(silent, NotYet) and "etcd-c must answer first" in silent.reason
    assert isinstance(may_change(a, Unknown("timed out"), others), NotYet)
    learner = ServedEtcd((*whole.members, listed(4, "d", learner=True)), version="3.4.23")
    assert isinstance(may_change(a, learner, {**others, "etcd-d": "3.4.23"}), NotYet)
    alarmed = may_change(a, replace(whole, alarms=(Alarm(2, NOSPACE),)), others)
    assert isinstance(alarmed, Rejected) and alarmed.rule == "etcd/upgrade-path" and "NOSPACE" in alarmed.evidence


def test_a_member_that_is_down_may_get_another_image() -> None:
    """An image that can't be pulled must not hold its own correction up."""
    assert isinstance(may_change(Upgrade("etcd-a", "3.4.27"), NotListening("refused"), {}), Turn)


def test_a_single_member_needs_nobody() -> None:
    assert isinstance(may_change(Upgrade("etcd-a", "3.5.30"), served("3.4.23", "a"), {}), Turn)


@pytest.mark.parametrize(
    ("running", "wanted", "told"),
    [
        ({"a": "3.5.32", "b": "3.5.30", "c": "3.5.32"}, "3.6.8", "etcd-b runs 3.5.30"),
        ({"a": "3.4.23", "b": "3.4.23", "c": "3.4.23"}, "3.6.8", "one minor version up at a time"),
        ({"a": "3.5.30", "b": "3.5.30", "c": "3.4.23"}, "3.5.2", "can corrupt data"),
        ({"a": "3.5.32", "b": "3.4.23", "c": "3.5.32"}, "3.6.8", "etcd-b runs 3.4.23"),
        ({"a": "3.6.8", "b": "3.6.10", "c": "3.6.11"}, "3.7.1", "run 3.6.11 first"),
    ],
)
def test_a_step_that_any_member_isn_t_ready_for_is_refused_on_every_node(
    running: dict[str, str], wanted: str, told: str
) -> None:
    for letter in running:
        refused = asked(letter, running, wanted)
        assert isinstance(refused, Rejected) and refused.rule == "etcd/upgrade-path"
        assert told in refused.evidence


def test_half_an_upgrade_goes_on() -> None:
    running = {"a": "3.5.30", "b": "3.4.23", "c": "3.4.23"}
    assert isinstance(asked("b", running, "3.5.30"), Turn)
    assert isinstance(asked("c", running, "3.5.30"), NotYet)


def test_a_move_to_tls_comes_first() -> None:
    moving = served("3.4.23")
    first = ClusterMember(1, "etcd-a", ("https://etcd-a:2380",), ("https://etcd-a:4001",))
    mixed = replace(moving, members=(first, *moving.members[1:]))
    answer = may_change(Upgrade("etcd-a", "3.5.30"), mixed, {"etcd-b": "3.4.23", "etcd-c": "3.4.23"})
    assert isinstance(answer, NotYet) and "TLS" in answer.reason


def test_an_image_without_a_version_waits_for_the_others_alone() -> None:
    running = dict.fromkeys("abc", "3.4.23")
    assert all(isinstance(asked(one, running, None), Turn) for one in "abc")
    assert all(isinstance(asked(one, running, "3.4.23"), Turn) for one in "abc"), "another registry, say"
