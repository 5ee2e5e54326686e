"""To which nodes a command goes next: all, one after the other, N at a time, or the next in turn.

A command that was sent to a node stays that node's until its deadline. It is never sent to another one instead: the
first may have done it, and only not have said so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

from protokube.core.model import Fault
from protokube.hub.core.course import ENDED, Course, Outcome, Stage


class Strategy(Struct, frozen=True):
    """`width` nodes at once (0: all). `single`: one node alone, the next in turn. `max_fail`: failures allowed."""

    width: int = 0
    single: bool = False
    max_fail: int = 0


class Candidate(Struct, frozen=True):
    """A node that a command names, as the hub sees it now."""

    node: str
    linked: bool
    held: bool = False
    busy: bool = False


class Next(Struct, frozen=True):
    """Send it to these now; nothing for now when there are none."""

    nodes: tuple[str, ...]


class Over(Struct, frozen=True):
    """Nothing more is sent. `skipped`: nodes that never get it, and why."""

    skipped: Mapping[str, str] = {}


def read_strategy(text: str, max_fail: int = 0) -> Strategy | Fault:
    """Read `all`, `one`, `rolling=N` or `round-robin`."""
    if max_fail < 0:
        return Fault("max-fail", f"0 or more was expected, got {max_fail}")
    if found := re.fullmatch(r"rolling=([1-9]\d{0,3})", text):
        return Strategy(int(found[1]), False, max_fail)
    match text:
        case "all":
            return Strategy(0, False, max_fail)
        case "one":
            return Strategy(1, False, max_fail)
        case "round-robin":
            return Strategy(1, True, max_fail)
    return Fault("strategy", f"all, one, rolling=N or round-robin was expected, got {text[:64]!r}")


def rounds(strategy: Strategy, nodes: int) -> int:
    """How many rounds a command for so many nodes has."""
    return 1 if strategy.single or strategy.width == 0 else -(-nodes // strategy.width)


def next_round(
    strategy: Strategy, candidates: Sequence[Candidate], courses: Mapping[str, Course], after: str | None = None
) -> Next | Over:
    """What to send now. `courses`: of each node that is named; `after`: the node that had the last turn."""
    queued = [one for one in candidates if courses[one.node].stage is Stage.QUEUED]
    if strategy.single:
        return _turn(queued, candidates, courses, after)
    failed = [name for name, course in courses.items() if _failed(course)]
    if len(failed) > strategy.max_fail:
        why = f"not sent: {len(failed)} of the nodes before it failed ({', '.join(sorted(failed)[:4])})"
        return Over({one.node: why for one in queued})
    if not queued:
        return Over()
    under_way = sum(course.stage not in ENDED and course.stage is not Stage.QUEUED for course in courses.values())
    # With a width a change goes on only where the one before is known to be good: unknown ones hold their place.
    room = len(queued) if strategy.width == 0 else max(0, strategy.width - under_way)
    ready = [one.node for one in queued if one.linked and not one.busy and not one.held]
    return Next(tuple(ready[:room]))


def _turn(
    queued: Sequence[Candidate], candidates: Sequence[Candidate], courses: Mapping[str, Course], after: str | None
) -> Next | Over:
    if any(courses[one.node].stage not in (Stage.QUEUED, Stage.SKIPPED) for one in candidates):
        return Over({one.node: "not its turn" for one in queued})
    names = sorted(one.node for one in queued)
    later = [name for name in names if after is None or name > after]
    able = {one.node for one in queued if one.linked and not one.busy and not one.held}
    first = next((name for name in (*later, *names) if name in able), None)
    return Next(()) if first is None else Next((first,))


def _failed(course: Course) -> bool:
    return course.outcome in (Outcome.FAILED, Outcome.UNKNOWN, Outcome.CANCELLED)
