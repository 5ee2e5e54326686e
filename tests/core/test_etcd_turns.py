"""Whose turn it is to restart."""

from __future__ import annotations

import pytest

from protokube.core.etcd.model import NotListening, ServedEtcd
from protokube.core.etcd.rolling import NotYet, Turn
from protokube.core.etcd.turns import FRESH, LIFE, TakeTurn, is_over, spell_turn, whose_turn
from protokube.core.model import Unknown
from tests.core.etcd_views import listed

NOW = 1_700_000_000.0
MEMBERS = tuple(listed(number, letter) for number, letter in enumerate("abc", 1))
ALL = {"etcd-b", "etcd-c"}


def decide(turn: str, heard: set[str] = ALL, now: float = NOW) -> Turn | TakeTurn | NotYet:
    return whose_turn("etcd-a", ServedEtcd(MEMBERS, turn=turn), heard, now)


def test_a_turn_is_taken_and_used_while_it_is_fresh() -> None:
    assert decide("") is TakeTurn.TAKE
    ours = spell_turn("etcd-a", NOW)
    assert decide(ours) == Turn() and decide(ours, now=NOW + FRESH) == Turn()
    # A quarter of its life is used at most: another member's comes long after.
    assert decide(ours, now=NOW + FRESH + 1) is TakeTurn.TAKE and FRESH * 2 < LIFE
    assert decide(ours, now=NOW - 5) is TakeTurn.TAKE, "the clock was set back"
    assert decide("etcd-a soon") is TakeTurn.TAKE
    other = decide(spell_turn("etcd-b", NOW))
    assert isinstance(other, NotYet) and "etcd-b restarts first" in other.reason


def test_nobody_restarts_while_a_member_is_silent_or_a_learner_even_in_its_turn() -> None:
    ours = spell_turn("etcd-a", NOW)
    assert isinstance(decide(ours, {"etcd-b"}), NotYet)
    learner = ServedEtcd((*MEMBERS, listed(4, "d", learner=True)), turn=ours)
    assert isinstance(whose_turn("etcd-a", learner, {*ALL, "etcd-d"}, NOW), NotYet)
    assert isinstance(whose_turn("etcd-a", Unknown("timed out"), ALL, NOW), NotYet)


def test_a_member_that_is_down_and_a_single_one_need_no_turn() -> None:
    assert whose_turn("etcd-a", NotListening("refused"), set(), NOW) == Turn()
    assert whose_turn("etcd-a", ServedEtcd(MEMBERS[:1]), set(), NOW) == Turn()


@pytest.mark.parametrize("restarted", [True, False])
def test_a_turn_is_given_back_once_the_member_has_restarted(restarted: bool) -> None:
    assert is_over("etcd-a", ServedEtcd(MEMBERS, turn=spell_turn("etcd-a", NOW)), restarted=restarted) is restarted
    assert not is_over("etcd-a", ServedEtcd(MEMBERS, turn=spell_turn("etcd-b", NOW)), restarted=True)
    assert not is_over("etcd-a", Unknown("timed out"), restarted=True)
