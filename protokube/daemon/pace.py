"""How long the loop sleeps when no event comes, and when trying on is in vain."""

from __future__ import annotations

import random

from protokube.config.load import Settings
from protokube.report.model import Report

TRIES_IN_VAIN = 6
"""Reconciles in vain after which --once gives up."""
_PASSES_SOON = 20
"""Reconciles in vain, about three minutes of them, for which trouble counts as passing: its end is seen within
seconds."""
_SHORT, _LONG = 8.0, 10.0
"""The longest sleeps, in seconds, while something goes on by itself, and while something is waited for."""
_FIRST_AFTER_TROUBLE = 0.25


def tries_in_vain(report: Report, before: int) -> int:
    """Count the reconciles in a row that had something to do and got nothing done. `before`: until this one."""
    return 0 if report.got_on or report.converged else before + 1


def delay_after(report: Report, in_vain: int, settings: Settings) -> float:
    """The sleep in seconds when no event comes. `in_vain` is the count of `tries_in_vain`."""
    if report.converged:
        return settings.interval
    most = settings.interval
    trouble = in_trouble(report)
    if report.in_flight:
        most = min(most, _SHORT)
    elif report.left.waiting or (trouble and in_vain < _PASSES_SOON):
        most = min(most, _LONG)
    gate = settings.node.kubelet.gate_timeout - report.observed.at.uptime
    jitter = random.uniform(0.5, 1.0)
    # Trouble often passes at once, while the end of work under way is an event.
    first = _FIRST_AFTER_TROUBLE if trouble else 1.0
    delay = min(most, first * 2.0 ** min(in_vain, 12)) * jitter
    return min(delay, gate + 0.1) if gate > 0 else delay


def calm_after(report: Report, delay: float) -> float:
    """The part of the delay, in seconds, that events of the node don't end."""
    return delay / 2 if in_trouble(report) else 0.0


def in_trouble(report: Report) -> bool:
    """Whether something failed or can't be known, which often passes at once."""
    return bool(report.failed or report.left.unknown)
