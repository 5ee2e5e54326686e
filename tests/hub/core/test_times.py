"""Renewal, reconnecting and the hub's clock: what follows from times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protokube.hub.core.reconnect import Tries, lost, pause
from protokube.hub.core.renewal import BACKDATED, Heard, Validity, believable, due, retry_pause

FRACTION = st.floats(0, 1)


@given(st.floats(0, 1e6), st.floats(60, 90 * 86400), st.floats(0, 1e9), FRACTION)
def test_renewal_is_due_at_two_thirds_by_the_hub_s_clock(start: float, life: float, boot: float, at: float) -> None:
    validity = Validity(start - BACKDATED, start + life)
    when = due(validity, Heard(start, boot), at)
    assert 0.61 * life < when - boot < 0.72 * life
    # Heard later, the moment is the same one.
    later = due(validity, Heard(start + 1000, boot + 1000), at)
    assert later == pytest.approx(when, abs=1e-3 + 1e-6 * life)


def test_what_was_off_beyond_two_thirds_is_due_at_once() -> None:
    assert due(Validity(-BACKDATED, 86400), Heard(80000, 50.0), 0.5) < 50.0


@given(st.integers(1, 10**6), FRACTION)
def test_renewals_are_tried_again_within_ten_minutes_and_not_at_once(failures: int, at: float) -> None:
    assert 30 <= retry_pause(failures, at) <= 600
    assert retry_pause(failures, at, life=60.0) <= 5


@given(st.integers(0, 10**6), FRACTION)
def test_pauses_are_jittered_in_full_and_end_at_a_minute(failures: int, at: float) -> None:
    assert 0 <= pause(Tries(failures), at) <= 60
    assert pause(Tries(failures), 0.0) == 0.0


def test_pauses_double_and_a_steady_link_forgets_failures() -> None:
    tries, longest = Tries(), []
    for _ in range(8):
        tries = lost(tries, 0.0)
        longest.append(pause(tries, 1.0))
    assert longest == [1, 2, 4, 8, 16, 32, 60, 60]
    assert lost(tries, 59.0) == Tries(9)
    assert lost(tries, 60.0) == Tries(1)
    assert pause(Tries(), 1.0) == 0.0


def test_a_hub_whose_clock_goes_back_is_not_believed() -> None:
    assert believable(None, 1000.0) is None
    assert believable(Heard(701.0, 0.0), 1000.0) is None
    assert "went back by 400 s" in (believable(Heard(600.0, 0.0), 1000.0) or "")


def test_the_hub_s_time_goes_on_with_boot_time() -> None:
    assert Heard(1000.0, 20.0).now(25.5) == 1005.5
