"""One node after the other changes its API server: whose turn it is."""

from __future__ import annotations

import pytest

from protokube.core.controlplane.turns import OPEN, SLOT, not_yet

MIDNIGHT = 86400.0 * 20000


@pytest.mark.parametrize("names", [("a", "b"), ("n-3", "n-1", "n-2")])
def test_never_two_at_once_and_each_within_a_period(names: tuple[str, ...]) -> None:
    period = int(SLOT * len(names))
    may = [[one for one in names if not_yet(one, names, MIDNIGHT + second) is None] for second in range(period)]
    assert all(len(one) <= 1 for one in may)
    begun = [one for at, one in enumerate(may) if one and one != may[at - 1]]
    assert begun == [[one] for one in sorted(names)]
    assert [len(one) for one in may[: int(SLOT)]] == [1] * int(OPEN) + [0] * int(SLOT - OPEN), "a pause follows"


def test_a_node_alone_has_always_its_turn() -> None:
    assert not_yet("n1", (), 12.0) is None and not_yet("n1", ("n1",), 100.0) is None


def test_the_next_turn_is_told_in_the_same_words_until_it_comes() -> None:
    told = {not_yet("b", ("a", "c"), MIDNIGHT + second) for second in range(120)}
    assert told == {"API servers change one after the other; this node's turn begins at 00:02:00 UTC"}
