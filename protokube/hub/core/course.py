"""The course of a command at one node, told from its events: done once, or unknown with facts."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct, structs

from protokube.hub.core.messages import Event

SETTLE = 60.0
"""Seconds after the deadline in which a node's last word may still be on its way."""


class Stage(StrEnum):
    """How far a command is at one node."""

    QUEUED = "queued"
    SENT = "sent"
    ACCEPTED = "accepted"
    STARTED = "started"
    REFUSED = "refused"
    DONE = "done"
    SKIPPED = "skipped"


class Outcome(StrEnum):
    """What came of it."""

    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


ENDED = frozenset({Stage.REFUSED, Stage.DONE, Stage.SKIPPED})
_ORDER = (Stage.QUEUED, Stage.SENT, Stage.ACCEPTED, Stage.STARTED, Stage.DONE)
_STAGES = {
    "accepted": Stage.ACCEPTED,
    "started": Stage.STARTED,
    "progress": Stage.STARTED,
    "log": Stage.STARTED,
    "refused": Stage.REFUSED,
    "done": Stage.DONE,
}


class Course(Struct, frozen=True):
    """A command at one node. `seen`: its last event. `why`: for people. `cancelled`: an operator wants it no more."""

    stage: Stage = Stage.QUEUED
    seen: int = 0
    outcome: Outcome | None = None
    why: str = ""
    cancelled: bool = False


def heard(course: Course, event: Event) -> Course | None:
    """The course after an event; None for one that was heard before, or that comes after the end."""
    if event.seq <= course.seen or course.stage in (Stage.REFUSED, Stage.DONE):
        return None
    stage = _STAGES[event.kind]
    if stage is Stage.DONE:
        outcome = _outcome(event.data.get("outcome"))
        return Course(stage, event.seq, outcome, _text(event.data.get("why")))
    if stage is Stage.REFUSED:
        faults = event.data.get("faults")
        why = "; ".join(_text(one) for one in faults) if isinstance(faults, list) else ""
        return Course(stage, event.seq, Outcome.FAILED, f"{_text(event.data.get('check'))}: {why}")
    furthest = stage if course.stage is Stage.SKIPPED else max(course.stage, stage, key=_ORDER.index)
    return Course(furthest, event.seq, cancelled=course.cancelled)


def advances(before: Course, after: Course) -> bool:
    """Whether an event brought a command further: that is kept whatever the node's quota, since it comes once."""
    return before.stage is not after.stage


def lapsed(course: Course, now: float, deadline: float) -> Course | None:
    """The course once its deadline is past and nothing was heard; None while there is nothing to say.

    One that was never sent is skipped. One that was sent is unknown, until its node tells.
    """
    if course.stage in ENDED or course.outcome is not None:
        return None
    if course.stage is Stage.QUEUED:
        return (
            structs.replace(course, stage=Stage.SKIPPED, why="its deadline passed before it was sent")
            if (now >= deadline)
            else None
        )
    if now < deadline + SETTLE:
        return None
    why = f"{course.stage} was the last that the hub heard (event {course.seen}); the node's record tells the rest"
    return structs.replace(course, outcome=Outcome.UNKNOWN, why=why)


class RunAgain(Struct, frozen=True):
    """A read that was cut off, or a command that wasn't started: it is run."""


class Ends(Struct, frozen=True):
    """A command that ends without being run (again)."""

    outcome: Outcome
    why: str


def after_restart(events: Sequence[Event], *, changes: bool, now: float, deadline: float) -> RunAgain | Ends | None:
    """What becomes of a command whose node's program was started again; None when it has ended.

    A change that was started is never run again: how far it came is told by the facts, and judged by people.
    One without a verdict is never run: nobody knows whether it was allowed.
    """
    kinds = {event.kind for event in events}
    if kinds & {"done", "refused"}:
        return None
    if "accepted" not in kinds:
        return Ends(Outcome.FAILED, "no verdict of it was kept: it wasn't run; send it again, with another id")
    started = "started" in kinds
    if started and changes:
        return Ends(Outcome.UNKNOWN, "the node's program ended while it ran; the facts are those of now")
    if now >= deadline:
        return Ends(Outcome.FAILED, "its deadline passed before it could be run")
    return RunAgain()


def _outcome(value: object) -> Outcome:
    """A node's word; one that isn't known is unknown, not fine."""
    return Outcome(value) if isinstance(value, str) and value in tuple(Outcome) else Outcome.UNKNOWN


def _text(value: object) -> str:
    return value[:1000] if isinstance(value, str) else ""
