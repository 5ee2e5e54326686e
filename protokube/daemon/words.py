"""What the log and systemd are told of a report."""

from __future__ import annotations

import logging
from collections.abc import Callable

from protokube.errors import ProviderError
from protokube.report.model import Report

log = logging.getLogger("protokube")

_SAY_EVERY = 5.0
"""Seconds between two lines that say what --once waits for."""


def summary(report: Report) -> str:
    """One line of state."""
    if report.converged:
        return "converged"
    parts = [f"refused: {one.subject} {one.rule}" for one in report.left.refusals if one.serious]
    parts += [f"failed: {one.step.action.subject}" for one in report.failed]
    parts += [f"unknown: {one.subject}" for one in report.left.unknown]
    parts += [f"waiting: {one.subject} ({one.reason})" for one in report.left.waiting]
    return "; ".join(parts) or "working"


def say(report: Report, before: Report | None) -> None:
    """Log the rest of a report when it has changed."""
    for one in report.left.accepted:
        if before is None or one not in before.left.accepted:
            log.warning(
                "accepted: %s: %s is overruled once, for filesystem %s", one.subject, one.rule, one.filesystem
            )
    if before is not None and summary(report) == summary(before):
        return
    for refusal in report.left.refusals:
        log.warning("refused: %s: %s: %s", refusal.subject, refusal.rule, refusal.evidence)
    for unknown in report.left.unknown:
        log.warning("unknown: %s: %s", unknown.subject, unknown.reason)
    for waiting in report.left.waiting:
        log.info("waiting: %s: %s", waiting.subject, waiting.reason)
    for note in report.left.hints:
        if before is None or note not in before.left.hints:
            log.info("%s", note)
    if report.converged:
        log.info("converged")


def say_waiting(report: Report, elapsed: float, limit: float, said: float) -> float:
    """--once prints its report at the end. Until then it says now and then what keeps it; returns when it did last.

    All times in seconds since the start.
    """
    if elapsed - said < _SAY_EVERY:
        return said
    kept = [f"{one.subject}: {one.reason}" for one in report.left.unknown]
    kept += [f"{one.subject}: {one.reason}" for one in report.left.waiting]
    kept += [f"{one.step.action.subject}: {one.error}" for one in report.failed]
    log.warning("not converged after %.0f s, of %.0f s at most: %s", elapsed, limit, "; ".join(kept) or "working")
    return elapsed


def tell(send: Callable[..., None], *words: str) -> None:
    """Tell systemd. A PID 1 that doesn't listen for a moment must not end a healthy daemon."""
    try:
        send(*words)
    except ProviderError as error:
        log.warning("%s", error)
