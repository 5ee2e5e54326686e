"""Growing pauses. They are counted by a clock that nobody sets, and losing them costs one try too many."""

from __future__ import annotations

from msgspec import Struct

FORGOTTEN = 600.0
"""Seconds up after which a container's crashes are forgotten, as in kubelet."""


class Pause(Struct, frozen=True):
    """How often in a row something went wrong, and until when it is left alone (boot time, seconds)."""

    failures: int = 0
    until: float = 0.0


def after_failure(pause: Pause, now: float, *, first: float, longest: float) -> Pause:
    """The pause after one more failure: `first`, then twice as long each time, at most `longest`."""
    length = min(longest, first * 2.0 ** min(pause.failures, 32))
    return Pause(pause.failures + 1, now + length)


def after_end(pause: Pause, began: float, now: float, *, first: float, longest: float) -> Pause:
    """The pause after the end of what should go on for ever: `first` again after a run of `longest` seconds."""
    return after_failure(Pause() if now - began >= longest else pause, now, first=first, longest=longest)


def after_exit(pause: Pause, now: float, ran: float) -> Pause:
    """The pause before a container that ran for `ran` seconds is started again.

    As in kubelet the first restart comes at once, the next ones after 10 s, 20 s, … 300 s.
    """
    if ran >= FORGOTTEN:
        pause = Pause()
    if pause.failures == 0:
        return Pause(1, now)
    length = min(300.0, 10.0 * 2.0 ** min(pause.failures - 1, 32))
    return Pause(pause.failures + 1, now + length)
