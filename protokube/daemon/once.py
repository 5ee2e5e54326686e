"""--once: reconcile until nothing more can happen."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future

from msgspec.structs import replace

from protokube.alarm import Alarm
from protokube.config.load import Settings
from protokube.config.wiring import Wired
from protokube.daemon.pace import TRIES_IN_VAIN, calm_after, delay_after, in_trouble, tries_in_vain
from protokube.daemon.sleep import Sleep, cause_of
from protokube.daemon.watches import Watches, may_have_missed
from protokube.daemon.words import say_waiting
from protokube.reconcile import Cause
from protokube.reconciles import Reconciles
from protokube.report.account import StepReport
from protokube.report.model import Report


async def converge(
    settings: Settings, wired: Wired, alarm: Alarm, reconciles: Reconciles, first: Future[Report]
) -> Report:
    """--once: reconcile until the node is converged, nothing more can happen, or the time is up.

    `first` has begun already.
    """
    loop = asyncio.get_running_loop()
    sleep = Sleep(loop, alarm)
    watches = Watches(loop, wired, alarm)
    current = first
    earlier: list[StepReport] = []
    in_vain = 0
    said = 0.0
    try:
        while True:
            report = await asyncio.wrap_future(current)
            watches.follow(report, settings.root)
            in_vain = tries_in_vain(report, in_vain)
            left = settings.timeout - (time.monotonic() - reconciles.started)
            trying = in_trouble(report) and in_vain < TRIES_IN_VAIN
            if report.converged or left <= 0 or not (report.in_flight or trying or report.got_on):
                return replace(report, earlier=tuple(earlier))
            earlier += report.steps
            said = say_waiting(report, time.monotonic() - reconciles.started, settings.timeout, said)
            if current is first and may_have_missed(report):
                current = reconciles.begin(Cause.NODE)
                continue
            delay = min(delay_after(report, in_vain, settings), left)
            reasons = await sleep.until_rung(delay, calm_after(report, delay))
            current = reconciles.begin(cause_of(reasons))
    finally:
        alarm.listen(None)
        watches.close()
