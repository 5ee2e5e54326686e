"""The daemon: reconciles until a signal ends it; the watchdog is fed and systemd is told."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from concurrent.futures import Future

from msgspec import Struct

from protokube.alarm import Alarm
from protokube.config.choice import Chosen
from protokube.config.wiring import Wired
from protokube.daemon.pace import calm_after, delay_after, tries_in_vain
from protokube.daemon.sleep import Sleep, cause_of, shown
from protokube.daemon.watches import Watches, may_have_missed
from protokube.daemon.words import say, summary, tell
from protokube.host.notify import Notifier
from protokube.reconcile import Cause
from protokube.reconciles import Reconciles
from protokube.report.model import Report

log = logging.getLogger("protokube")

GRACE = 4.5
"""Seconds that the action in hand may take to end after SIGTERM; the program is gone within 5 s."""

PASS_LIMIT = 120.0
"""Seconds within which a pass of a reconcile ends; beyond that the watchdog is no longer fed."""


class Running(Struct, frozen=True):
    """A configuration at work, with everything that serves it. `first` is its first reconcile, which has begun."""

    chosen: Chosen
    wired: Wired
    alarm: Alarm
    reconciles: Reconciles
    first: Future[Report]


async def serve(running: Running, notifier: Notifier) -> bool:
    """Run the daemon until a signal ends it.

    True when the configuration is to be read again; no reconcile runs then.
    """
    reconciles, alarm = running.reconciles, running.alarm
    loop = asyncio.get_running_loop()
    sleep = Sleep(loop, alarm)
    watches = Watches(loop, running.wired, alarm)
    reload, stop = asyncio.Event(), asyncio.Event()

    def end(name: str, what: str, asked: asyncio.Event) -> None:
        log.info("%s: %s", name, what)
        reconciles.stopping = True
        asked.set()

    loop.add_signal_handler(signal.SIGTERM, end, "SIGTERM", "ending", stop)
    loop.add_signal_handler(signal.SIGINT, end, "SIGINT", "ending", stop)
    loop.add_signal_handler(signal.SIGHUP, end, "SIGHUP", "reading the configuration again", reload)
    loop.add_signal_handler(signal.SIGUSR1, alarm.ring, "SIGUSR1")
    work = loop.create_task(_work(running, watches, sleep, notifier))
    reloading, stopping = loop.create_task(reload.wait()), loop.create_task(stop.wait())
    feeding = loop.create_task(_feed(notifier, reconciles))
    try:
        await asyncio.wait([work, reloading, stopping], return_when=asyncio.FIRST_COMPLETED)
        if reconciles.busy:  # the next configuration waits for its end; the watchdog ends one that hangs
            await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
        if reconciles.busy:
            await asyncio.wait([work], timeout=GRACE)
    finally:
        tasks = work, reloading, stopping, feeding
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        alarm.listen(None)
        watches.close()
    if not work.cancelled():
        work.result()  # a bug in a reconcile ends the program with its traceback
    return reload.is_set() and not stop.is_set()


async def _work(running: Running, watches: Watches, sleep: Sleep, notifier: Notifier) -> None:
    settings, reconciles, current = running.chosen.settings, running.reconciles, running.first
    before: Report | None = None
    in_vain = 0
    while True:
        report = await asyncio.wrap_future(current)
        say(report, before)
        watches.follow(report, settings.root)
        if before is None:
            tell(notifier.ready, summary(report))
        elif summary(report) != summary(before):
            tell(notifier.status, summary(report))
        again = before is None and may_have_missed(report)
        before = report
        in_vain = tries_in_vain(report, in_vain)
        delay = 0.0 if again else delay_after(report, in_vain, settings)
        if reconciles.stopping:
            return
        if not report.converged and delay:
            log.info("next reconcile in %.1f s, or with the next event", delay)
        reasons = await sleep.until_rung(delay, calm_after(report, delay))
        if reasons or delay:
            log.info("woken by %s", shown(reasons) or f"the clock, after {delay:.1f} s")
        current = reconciles.begin(Cause.NODE if again and not reasons else cause_of(reasons))


async def _feed(notifier: Notifier, reconciles: Reconciles) -> None:
    """Feed the watchdog while the reconcile gets on. A hang ends in a restart then, which loses nothing (law 2)."""
    while notifier.watchdog_interval is not None:
        if not reconciles.busy or time.monotonic() - reconciles.last_sign < PASS_LIMIT:
            tell(notifier.watchdog)
        await asyncio.sleep(notifier.watchdog_interval)
