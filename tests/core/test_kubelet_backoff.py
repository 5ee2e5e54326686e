"""Growing pauses between the starts of a unit that doesn't stay up, and the limit on restarts."""

from __future__ import annotations

import pytest

from protokube.core.kubelet.backoff import HOUR, LONGEST, WINDOW, UnitTracking

UNIT = "kubelet.service"


def started(*uptimes: float) -> UnitTracking:
    tracking = UnitTracking()
    for uptime in uptimes:
        tracking = tracking.started(UNIT, uptime)
    return tracking


def restarted(*uptimes: float) -> UnitTracking:
    tracking = UnitTracking()
    for uptime in uptimes:
        tracking = tracking.restarted(UNIT, uptime)
    return tracking


def test_a_unit_that_was_never_started_starts_at_once() -> None:
    assert UnitTracking().pause(UNIT, 0.0, 0) == 0.0
    assert UnitTracking().pause(UNIT, 0.0, 100) == 0.0, "systemd's restarts are not ours to pause"
    assert started(10.0).pause("other.service", 10.0, 0) == 0.0


def test_the_pauses_grow_to_a_minute() -> None:
    """A unit that went down once is started again at once."""
    tracking, uptime, pauses = UnitTracking(), 0.0, []
    for _ in range(10):
        tracking = tracking.started(UNIT, uptime)
        pauses.append(tracking.pause(UNIT, uptime, 0))
        uptime += pauses[-1]
    assert pauses == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_unit_that_never_stays_up_is_tried_every_minute_for_ever() -> None:
    """Old starts leave the window, and enough of them stay in it."""
    tracking, uptime = UnitTracking(), 0.0
    for number in range(500):
        tracking = tracking.started(UNIT, uptime)
        pause = tracking.pause(UNIT, uptime, 0)
        assert number < 7 or pause == LONGEST
        uptime += pause
    assert len(tracking.starts[UNIT]) <= HOUR / LONGEST + 1, "what is remembered stays small"


def test_the_pause_passes() -> None:
    tracking = started(0.0, 0.0, 1.0, 3.0)
    assert [tracking.pause(UNIT, at, 0) for at in (3.0, 5.5, 7.0, 8.0)] == [4.0, 1.5, 0.0, 0.0]


@pytest.mark.parametrize(("restarts", "pause"), [(0, 0), (1, 1), (2, 2), (5, 16), (7, 60), (30, 60), (100_000, 60)])
def test_systemds_own_restarts_count(restarts: int, pause: float) -> None:
    assert started(50.0).pause(UNIT, 50.0, restarts) == pause


def test_restarts_of_systemd_add_to_our_own_starts() -> None:
    assert started(0.0, 1.0).pause(UNIT, 1.0, 2) == 4.0


def test_a_unit_that_stayed_up_for_ten_minutes_starts_at_once() -> None:
    tracking = started(*(float(at) for at in range(20)))
    assert tracking.pause(UNIT, 19.0 + WINDOW - 0.5, 50) == 0.0, "the pause is over long before"
    again = tracking.started(UNIT, 19.0 + WINDOW)
    assert again.pause(UNIT, 19.0 + WINDOW, 0) == 0.0, "counted from one again"
    assert again.started(UNIT, 20.0 + WINDOW).pause(UNIT, 20.0 + WINDOW, 0) == 1.0
    assert tracking.pause(UNIT, 19.0 + WINDOW, 50) == 0.0


def test_starts_are_counted_for_each_unit() -> None:
    tracking = started(0.0, 1.0).started("other.service", 2.0)
    assert tracking.starts == {UNIT: (0.0, 1.0), "other.service": (2.0,)}
    assert (tracking.pause(UNIT, 1.0, 0), tracking.pause("other.service", 2.0, 0)) == (1.0, 0.0)


# --- restarts of a unit that is up ----------------------------------------------------------------------


def test_so_many_restarts_an_hour() -> None:
    tracking = restarted(0.0, 600.0, 1200.0)
    assert tracking.restart_pause(UNIT, 1200.0, 4) == 0.0
    assert tracking.restart_pause(UNIT, 1200.0, 3) == HOUR - 1200.0
    assert tracking.restart_pause(UNIT, HOUR - 1.0, 3) == 1.0
    assert tracking.restart_pause(UNIT, HOUR, 3) == 0.0
    more = tracking.restarted(UNIT, 1800.0).restarted(UNIT, 2400.0)
    assert more.restart_pause(UNIT, 2400.0, 3) == 1200.0 + HOUR - 2400.0, "counted from the third last"


def test_no_hour_ever_has_more_restarts() -> None:
    tracking, uptime, restarts = UnitTracking(), 0.0, []
    for _ in range(200):
        pause = tracking.restart_pause(UNIT, uptime, 6)
        if pause == 0.0:
            restarts.append(uptime)
            tracking = tracking.restarted(UNIT, uptime)
        uptime += pause or 7.0
    assert all(later - first >= HOUR for first, later in zip(restarts, restarts[6:], strict=False))
    assert len(restarts) > 12


def test_what_is_older_than_an_hour_is_forgotten() -> None:
    assert started(0.0, HOUR + 1.0).starts == {UNIT: (HOUR + 1.0,)}
    assert UnitTracking().restart_pause(UNIT, 0.0, 1) == 0.0


def test_starts_fill_no_hour() -> None:
    """A unit that was down often may still be restarted for a changed file."""
    assert started(*map(float, range(20))).restart_pause(UNIT, 20.0, 1) == 0.0
    assert restarted(0.0, 10.0).pause(UNIT, 10.0, 0) == 1.0, "a restart is a start as well"
