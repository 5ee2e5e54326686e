"""One node after the other changes its API server: whose turn it is."""

from __future__ import annotations

import pytest

from protokube.core.controlplane.turns import FRESH, LIFE, Asker, TakeApiTurn
from protokube.core.etcd.model import LocalMember, NotListening, ServedEtcd
from protokube.core.etcd.rolling import NotYet, Turn
from protokube.core.etcd.turns import TURN_KEY, spell_turn
from protokube.core.model import Unknown
from tests.core.etcd_views import listed

NOW = 1_700_000_000.0
AT = LocalMember("main", "etcd-a", "https://127.0.0.1:4001", 4101)
MEMBERS = tuple(listed(number, letter) for number, letter in enumerate("abc", 1))
A_YEAR = 365 * 86400.0


def asker(name: str = "n1", now: float = NOW) -> Asker:
    return Asker(name, AT, now)


def test_a_turn_is_taken_and_used_while_it_is_fresh() -> None:
    free = asker().may_change(ServedEtcd(MEMBERS), down=False)
    assert free == TakeApiTurn(AT, "", spell_turn("n1", NOW)) and free.key != TURN_KEY and free.life == LIFE
    ours = ServedEtcd(MEMBERS, api_turn=spell_turn("n1", NOW))
    assert asker().may_change(ours, down=False) == asker(now=NOW + FRESH).may_change(ours, down=False) == Turn()
    # A quarter of its life at most: another node's turn comes long after.
    assert isinstance(asker(now=NOW + FRESH + 1).may_change(ours, down=False), TakeApiTurn) and FRESH * 4 <= LIFE
    assert isinstance(asker(now=NOW - 5).may_change(ours, down=False), TakeApiTurn), "the clock was set back"


@pytest.mark.parametrize("skew", [-A_YEAR, -90.0, 90.0, A_YEAR])
@pytest.mark.parametrize("down", [False, True])
def test_another_nodes_turn_counts_whatever_the_clocks_say(skew: float, *, down: bool) -> None:
    theirs = ServedEtcd(MEMBERS, api_turn=spell_turn("n2", NOW + skew))
    told = asker().may_change(theirs, down=down)
    assert isinstance(told, NotYet) and told.reason == "n2 changes its API server first"
    assert asker().keep(theirs) is None


@pytest.mark.parametrize("unknown", [Unknown("timed out"), NotListening("refused")])
def test_without_etcd_only_what_is_down_is_changed(unknown: Unknown) -> None:
    told = asker().may_change(unknown, down=False)
    assert isinstance(told, NotYet) and "can't be asked whose turn it is" in told.reason
    assert asker().may_change(unknown, down=True) == Turn()
    assert asker().keep(unknown) is None


def test_a_single_node_needs_no_turn() -> None:
    alone = ServedEtcd(MEMBERS[:1])
    assert asker().may_change(alone, down=False) == Turn() and asker().keep(alone) is None


def test_a_turn_is_kept_while_the_change_is_watched() -> None:
    ours = ServedEtcd(MEMBERS, api_turn=spell_turn("n1", NOW))
    assert asker().keep(ours) is None
    later = asker(now=NOW + 60)
    again = TakeApiTurn(AT, spell_turn("n1", NOW), spell_turn("n1", NOW + 60))
    assert later.keep(ours) == again and later.holds(ours)
    assert later.keep(ServedEtcd(MEMBERS)) == TakeApiTurn(AT, "", spell_turn("n1", NOW + 60)), "etcd forgot it"
