"""What a node's record forgets: what is old, and of too much the oldest that nobody needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protokube.hub.core import keeping
from protokube.hub.core.keeping import KEPT_COMMANDS, KEPT_SECONDS, Entry, making_room, outlived, too_many
from protokube.hub.core.membership import LEEWAY

NOW = 10_000.0
DONE = Entry(5.0, 100, True, False, NOW - LEEWAY)
RUNS = Entry(5.0, 100, False, False, NOW - LEEWAY)
UNKNOWN = Entry(5.0, 100, True, True, NOW - LEEWAY)
DUE = Entry(5.0, 100, True, False, NOW - LEEWAY + 1)
REFUSED = Entry(5.0, 100, True, False, 0.0)


def old(entry: Entry) -> Entry:
    return Entry(KEPT_SECONDS + 1, entry.size, entry.ended, entry.unknown, entry.deadline)


def test_ids_are_kept_for_a_month_and_a_thousand_of_them_always() -> None:
    assert outlived([old(DONE)] * 500) == set()
    assert outlived([old(DONE)] * 700 + [DONE] * 900) == set(range(600))
    assert outlived([old(DONE)] * 10 + [DONE] * 5000) == set(range(10))
    assert outlived([]) == set()
    assert outlived([old(RUNS), old(UNKNOWN), old(DONE)] + [DONE] * KEPT_COMMANDS) == {1, 2}  # who runs isn't over


def test_room_is_made_by_number_of_the_oldest_that_nobody_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MOST_COMMANDS", 8)
    entries = [RUNS, DONE, UNKNOWN, DUE, REFUSED, DONE, DONE, DONE]
    assert too_many(8, 0) and not too_many(7, 0)
    assert making_room(entries, NOW) == {1, 4}
    assert making_room(entries[:6], NOW) == set()
    assert making_room([RUNS, UNKNOWN, DUE] * 5, NOW) == set()  # then nothing more is taken
    assert making_room([DUE] * 8, NOW + 1) == {0, 1}


def test_room_is_made_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MOST_BYTES", 400)
    assert too_many(1, 400) and not too_many(1, 399)
    assert making_room([UNKNOWN, DONE, DONE, DONE], NOW) == {1}


@given(st.lists(st.sampled_from([DONE, RUNS, UNKNOWN, DUE, REFUSED, old(DONE), old(RUNS)]), max_size=40))
def test_what_is_still_needed_never_goes(entries: list[Entry]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keeping, "MOST_COMMANDS", 4)
        gone = making_room(entries, NOW)
    assert not {place for place, one in enumerate(entries) if one in (RUNS, UNKNOWN, DUE, old(RUNS))} & gone
    left = [one for place, one in enumerate(entries) if place not in gone]
    assert len(left) <= 3 or all(one in (RUNS, UNKNOWN, DUE, old(RUNS)) for one in left)
