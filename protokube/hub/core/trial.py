"""What undoes itself on a node: a configuration on trial, and a hold. Neither needs the hub for its end."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

SETTLING = 10.0
"""Seconds that protokube may take to read a new configuration, before it has to be active."""


class Trial(Struct, frozen=True):
    """A configuration that isn't confirmed yet.

    `revision` is on trial, `before` is what comes back. `boot` names the boot in which it was put; `since` and
    `until` are boot time.
    """

    command: str
    revision: int
    before: int
    boot: str
    since: float
    until: float


class Verdict(StrEnum):
    """What becomes of a trial."""

    WAIT = "wait"
    KEEP = "keep"
    ROLL_BACK = "roll back"


class Judged(Struct, frozen=True):
    """A verdict, and why."""

    verdict: Verdict
    why: str


def judge_trial(
    trial: Trial, boot: str, now: float, *, active: bool | None, confirmed: bool, resumed: bool = False
) -> Judged:
    """Judge a trial at a moment of boot time.

    `active`: protokube's unit is, None when it can't be told. `resumed`: the program that put it has ended since.
    """
    if confirmed:
        return Judged(Verdict.KEEP, "confirmed")
    if boot != trial.boot:
        return Judged(Verdict.ROLL_BACK, "the machine was started again before it was confirmed")
    if resumed:
        return Judged(Verdict.ROLL_BACK, "nokubelet was started again before it was confirmed")
    if now >= trial.until:
        return Judged(Verdict.ROLL_BACK, f"not confirmed within {trial.until - trial.since:.0f} s")
    if active is False and now >= trial.since + SETTLING:
        return Judged(Verdict.ROLL_BACK, "protokube didn't stay active")
    return Judged(Verdict.WAIT, f"{trial.until - now:.0f} s are left to confirm it")


class Held(Struct, frozen=True):
    """protokube stands still: by which command, why, in which boot, and until when (boot time)."""

    command: str
    reason: str
    boot: str
    until: float


def hold_ended(held: Held, boot: str, now: float) -> str | None:
    """Why a hold is over, None while it lasts. A mask at run time ends with the boot, and so does the hold."""
    if boot != held.boot:
        return "the machine was started again"
    return "its time is over" if now >= held.until else None
