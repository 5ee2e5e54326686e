"""Replacing a member: whose turn which step is, and all that keeps it from being taken."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from protokube.core.etcd.health import ClusterView, name_of
from protokube.core.etcd.replace import (
    Add,
    Await,
    Promote,
    Remove,
    Replaced,
    Wanted,
    next_step,
    plan_text,
    quorum,
)
from protokube.core.etcd.running import CORRUPT, Alarm, ClusterMember, MemberStatus, PeerAbout
from protokube.core.model import Rejected, Unknown
from tests.core.etcd_views import URL, listed, view

B = Wanted("etcd-b", URL.format("b"), ("etcd-a", "etcd-b", "etcd-c"))


def rule(step: object) -> str:
    assert isinstance(step, Rejected), step
    return step.rule


def test_a_lost_member_is_removed_added_started_and_promoted() -> None:
    lost = view("abc", silent="b")
    assert next_step(B, lost) == Remove(2)
    assert next_step(B, view("ac")) == Add()
    assert isinstance(next_step(B, view("ac", added="b")), Await)
    assert isinstance(next_step(B, view("ac", learner="b", silent="b")), Await)
    assert next_step(B, view("ac", learner="b")) == Promote(2)
    assert next_step(B, view("abc")) == Replaced()


def test_a_member_that_answers_is_never_removed() -> None:
    for letters in ("abc", "abcde"):
        assert next_step(B, view(letters)) == Replaced()


def test_our_own_member_and_a_cluster_without_quorum_are_refused() -> None:
    assert rule(next_step(replace(B, name="etcd-a"), view("abc"))) == "etcd/replace"
    assert rule(next_step(B, replace(view("abc", silent="b"), members=Unknown("timed out")))) == "etcd/no-quorum"
    leaderless = view("abc", silent="b")
    assert isinstance(leaderless.status, MemberStatus)
    assert rule(next_step(B, replace(leaderless, status=replace(leaderless.status, leader=0)))) == "etcd/no-quorum"
    assert rule(next_step(B, replace(leaderless, status=Unknown("refused")))) == "etcd/no-quorum"


@pytest.mark.parametrize(
    ("letters", "silent", "allowed"),
    [
        ("ab", "b", False),
        ("abc", "b", True),
        ("abc", "bc", False),
        ("abcd", "b", True),
        ("abcd", "bc", False),
        ("abcde", "b", True),
        ("abcde", "bc", True),
        ("abcde", "bcd", False),
    ],
)
def test_a_removal_leaves_a_quorum_that_answers(letters: str, silent: str, allowed: bool) -> None:
    wanted = replace(B, all=tuple(f"etcd-{one}" for one in letters))
    step = next_step(wanted, view(letters, silent=silent))
    assert isinstance(step, Remove) if allowed else rule(step) == "etcd/no-quorum"


def test_no_state_of_a_cluster_leads_to_a_removal_that_costs_the_quorum() -> None:
    """Every list of up to five members, each alive or not, a learner or not: what is removed is silent, and enough
    voters are left that answer."""
    states = ["voter", "silent", "learner", "silent-learner", "added", "gone"]
    for letters in ("abc", "abcde"):
        wanted = replace(B, all=tuple(f"etcd-{one}" for one in letters))
        for combined in itertools.product(states, repeat=len(letters) - 1):
            by = dict(zip(letters[1:], combined, strict=True))
            seen = view(
                "a" + "".join(one for one in by if by[one] in ("voter", "silent")),
                silent="".join(one for one in by if "silent" in by[one]),
                learner="".join(one for one in by if "learner" in by[one]),
                added="".join(one for one in by if by[one] == "added"),
            )
            step = next_step(wanted, seen)
            others = [state for one, state in by.items() if one != "b"]
            if not isinstance(step, Replaced | Rejected):
                assert set(others) <= {"voter", "silent", "gone"}, "two members are touched at once"
            if isinstance(step, Remove):
                assert "gone" not in others, "another one may be on its way out"
                alive = 1 + others.count("voter")
                assert by["b"] == "silent" and alive >= quorum(len(letters)) and alive >= quorum(len(letters) - 1)
            if isinstance(step, Promote):
                assert by["b"] == "learner"


def test_another_member_in_between_bars_the_way() -> None:
    assert rule(next_step(B, view("ac", learner="b", added="d"))) == "etcd/replace"
    five = replace(B, all=tuple(f"etcd-{one}" for one in "abcde"))
    assert rule(next_step(five, view("abde", silent="b"))) == "etcd/replace", "c may be on its way out"
    assert next_step(five, view("ade")) == Add(), "a cluster grows"
    assert rule(next_step(five, view("abde", silent="b", learner="c"))) == "etcd/replace"


def test_a_learner_at_another_url_is_not_promoted_and_never_updated() -> None:
    """etcd promotes a learner whose peer URL is updated (etcd-io/etcd 21694)."""
    step = next_step(replace(B, url="https://etcd-b:2380"), view("ac", learner="b"))
    assert isinstance(step, Rejected) and "etcdctl member remove 2" in step.evidence


def test_data_in_doubt_bars_the_way_unless_it_is_the_lost_member_s() -> None:
    lost = view("abc", silent="b")
    assert next_step(B, replace(lost, alarms=(Alarm(2, CORRUPT),))) == Remove(2)
    assert rule(next_step(B, replace(lost, alarms=(Alarm(3, CORRUPT),)))) == "etcd/corrupt"
    assert rule(next_step(B, replace(lost, alarms=(Alarm(0, CORRUPT),)))) == "etcd/corrupt"
    assert rule(next_step(B, replace(lost, alarms=Unknown("no answer")))) == "etcd/replace"


def test_a_member_that_never_started_is_known_by_its_url() -> None:
    assert name_of(ClusterMember(1, "", ("https://etcd-b.internal.example.com:2380",))) == "etcd-b"


def test_the_plan_states_the_rule_of_the_quorum() -> None:
    lost = view("abc", silent="b")
    text = plan_text("main", B, lost, Remove(2))
    assert "1. take a backup" in text and "2. remove etcd-b (2)" in text and "5. promote it" in text
    assert text.endswith("Until etcd-b is promoted, etcd-a, etcd-c vote: of them none may fail.")
    goes_on = plan_text("main", B, view("ac", learner="b"), Promote(2))
    assert "1. promote it" in goes_on and "backup" not in goes_on
    five = replace(B, all=tuple(f"etcd-{one}" for one in "abcde"))
    assert "of them 1 may fail" in plan_text("main", five, view("abcde", silent="b"), Remove(2))


def test_what_is_listed_is_what_answers() -> None:
    seen = view("abc", silent="b")
    assert seen.answers("etcd-a") and seen.answers("etcd-c") and not seen.answers("etcd-b")
    assert not ClusterView("etcd-a", Unknown("no"), ()).answers("etcd-a")
    assert not seen.answers("etcd-x")
    assert listed(1, "a").started and isinstance(seen.peers["etcd-c"], PeerAbout)


def test_a_member_that_was_not_asked_is_not_removed() -> None:
    seen = view("abc", silent="b")
    unasked = replace(seen, peers={name: told for name, told in seen.peers.items() if name != "etcd-b"})
    refused = next_step(B, unasked)
    assert rule(refused) == "etcd/replace" and "was not asked" in str(refused)


def test_the_alarm_of_a_removed_member_bars_nothing() -> None:
    seen = replace(view("ac"), alarms=(Alarm(2, CORRUPT),))
    assert next_step(B, seen) == Add()
    assert rule(next_step(B, replace(seen, alarms=(Alarm(3, CORRUPT),)))) == "etcd/corrupt"
