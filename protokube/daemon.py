"""The run loop: reconcile, then sleep until an event or a deadline; signals, watchdog, readiness.

The main thread runs asyncio and never works: it only wakes the loop. Reconciles are synchronous code in a thread of
their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from protokube.alarm import Alarm
from protokube.config.choice import Chosen
from protokube.config.load import Settings
from protokube.config.wiring import Wired
from protokube.core.disks.model import NoDisk
from protokube.errors import ProviderError
from protokube.host.networkevents import watch_addresses
from protokube.host.notify import Notifier
from protokube.host.watch import APPEARANCE, CHANGE, DirectoryWatcher, wake_at_exit
from protokube.reconcile import Cause
from protokube.reconciles import Reconciles
from protokube.report.account import StepReport
from protokube.report.model import Report

log = logging.getLogger("protokube")

GRACE = 4.5
"""Seconds that the action in hand may take to end after SIGTERM; the program is gone within 5 s."""

PASS_LIMIT = 120.0
"""Seconds within which a pass of a reconcile ends; beyond that the watchdog is no longer fed."""

_SHORT, _LONG = 8.0, 10.0
"""The longest sleeps, in seconds, while something goes on by itself, and while something is waited for."""
_FIRST_AFTER_TROUBLE = 0.25
_TRIES_IN_VAIN = 6
"""Reconciles in vain after which --once gives up."""
_PASSES_SOON = 20
"""Reconciles in vain, about three minutes of them, for which trouble counts as passing: its end is seen within
seconds."""
_SAY_EVERY = 5.0
"""Seconds between two lines that say what --once waits for."""
_SHOWN = 4
"""Reasons that the log shows of those that woke."""
_BURST, _BURSTS = 0.005, 10
"""Seconds without an event that end a burst, and how many times a burst is prolonged at most."""


class Sleep:
    """The loop's sleep, which an alarm ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop, alarm: Alarm) -> None:
        self._alarm = alarm
        self._event = asyncio.Event()
        alarm.listen(lambda: loop.call_soon_threadsafe(self._event.set))

    async def until_rung(self, seconds: float, calm: float = 0.0) -> list[str]:
        """Sleep until an event, at most for so long. The reasons that woke; empty when the time ran out.

        Events come in bursts (two disks are ready within moments): a few more milliseconds of sleep save a reconcile,
        and let both disks go on together. For the first `calm` seconds only a person's signal ends the sleep: after
        trouble, events of the node must not cause another try at once.
        """
        reasons = await self._collected(calm)
        if not reasons:
            reasons = await self._wait(seconds - calm)
            for _ in range(_BURSTS if reasons else 0):
                if not (more := await self._wait(_BURST)):
                    break
                reasons += more
        return sorted(dict.fromkeys(reasons), key=_rank)

    async def _collected(self, seconds: float) -> list[str]:
        reasons: list[str] = []
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not any(map(is_signal, reasons)):
            reasons += await self._wait(left)
        return reasons

    async def _wait(self, seconds: float) -> list[str]:
        # wait_for would swallow a cancellation that comes together with the event (Python 3.11).
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        if not self._event.is_set():
            return []
        self._event.clear()
        return self._alarm.take()


def is_signal(reason: str) -> bool:
    """Whether a person has asked for a reconcile that reads everything."""
    return reason.startswith("SIG")


def _rank(reason: str) -> int:
    """Reasons that tell most come first, since only the first few are shown: a person's signal, what isn't about a
    file (addresses, units, tools), devices, other files."""
    if is_signal(reason):
        return 0
    return 1 if not reason.startswith("/") else 2 if reason.startswith("/dev/") else 3


class Watches:
    """Everything outside that may wake the loop: files, processes, addresses.

    Events only wake. Where the kernel refuses a watch, the log says so once; reconciles by the clock see what is
    missed, and each of them is followed by another try.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wired: Wired, alarm: Alarm) -> None:
        self._loop = loop
        self._wired = wired
        self._alarm = alarm
        self._directories = DirectoryWatcher(loop, alarm.ring, self._do_without)
        self._processes: set[int] = set()
        self._missed: set[str] = set()
        self._addresses = loop.create_task(self._watch_addresses())
        self._watch_always()

    def _watch_always(self) -> None:
        """Watch what matters whatever a reconcile has seen; try again where the kernel refused."""
        if self._addresses.done():
            self._addresses = self._loop.create_task(self._watch_addresses())
        for directory in self._wired.watch:
            self._directories.watch(directory, APPEARANCE if directory.is_relative_to("/dev") else CHANGE)
        for file in self._wired.files:
            self._directories.watch(file.parent, CHANGE, names=frozenset({file.name}))
            self._directories.watch_file(file)

    def follow(self, report: Report, root: str) -> None:
        """Watch what may come now: ends of tools at work, kubelet's kubeconfig, etcd in its data directories.

        Watch only volumes that this report could read: a look at a disk that hangs would hang as well.
        """
        if self._missed:
            self._watch_always()
        for volume_id, pid in self._wired.running().items():
            self._follow_tool(volume_id, pid)
        wanted = report.wanted
        if wanted.kubeconfig is not None:
            kubeconfig = Path(root, wanted.kubeconfig.lstrip("/"))  # no tool that brings it says so
            self._directories.watch(kubeconfig.parent, CHANGE, names=frozenset({kubeconfig.name}))
        for directory in wanted.directories:
            self._directories.watch(Path(root, directory.lstrip("/")), CHANGE)

    def _follow_tool(self, volume_id: str, pid: int) -> None:
        if pid in self._processes:
            return
        try:
            wake_at_exit(self._loop, pid, self._alarm.ring, f"the tool at work on {volume_id} has ended")
        except ProviderError as error:
            self._do_without(f"the tool at work on {volume_id}", error)
        else:
            self._processes.add(pid)

    async def _watch_addresses(self) -> None:
        try:
            await watch_addresses(self._alarm.ring)
        except ProviderError as error:
            self._do_without("addresses", error)

    def _do_without(self, what: str, error: ProviderError) -> None:
        if what not in self._missed:
            self._missed.add(what)
            log.warning("not watched, and seen only in reconciles by the clock: %s: %s", what, error)

    def close(self) -> None:
        """Watch nothing any more."""
        self._addresses.cancel()
        self._directories.close()


def tries_in_vain(report: Report, before: int) -> int:
    """Count the reconciles in a row that had something to do and got nothing done. `before`: until this one."""
    return 0 if report.got_on or report.converged else before + 1


def delay_after(report: Report, in_vain: int, settings: Settings) -> float:
    """The sleep in seconds when no event comes. `in_vain` is the count of `tries_in_vain`."""
    if report.converged:
        return settings.interval
    most = settings.interval
    trouble = _trouble(report)
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
    return delay / 2 if _trouble(report) else 0.0


def _trouble(report: Report) -> bool:
    return bool(report.failed or report.left.unknown)


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
            trying = _trouble(report) and in_vain < _TRIES_IN_VAIN
            if report.converged or left <= 0 or not (report.in_flight or trying or report.got_on):
                return replace(report, earlier=tuple(earlier))
            earlier += report.steps
            said = _say_waiting(report, time.monotonic() - reconciles.started, settings.timeout, said)
            if current is first and _may_have_missed(report):
                current = reconciles.begin(Cause.NODE)
                continue
            delay = min(delay_after(report, in_vain, settings), left)
            reasons = await sleep.until_rung(delay, calm_after(report, delay))
            current = reconciles.begin(_cause(reasons))
    finally:
        alarm.listen(None)
        watches.close()


def _say_waiting(report: Report, elapsed: float, limit: float, said: float) -> float:
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
        again = before is None and _may_have_missed(report)
        before = report
        in_vain = tries_in_vain(report, in_vain)
        delay = 0.0 if again else delay_after(report, in_vain, settings)
        if reconciles.stopping:
            return
        if not report.converged and delay:
            log.info("next reconcile in %.1f s, or with the next event", delay)
        reasons = await sleep.until_rung(delay, calm_after(report, delay))
        more = f" and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        if reasons or delay:
            log.info("woken by %s%s", ", ".join(reasons[:_SHOWN]) or f"the clock, after {delay:.1f} s", more)
        current = reconciles.begin(Cause.NODE if again and not reasons else _cause(reasons))


def _cause(reasons: list[str]) -> Cause:
    """The cause of the reconcile that the loop woke for: a person counts for more than events."""
    if not reasons:
        return Cause.CLOCK
    if any(map(is_signal, reasons)):
        return Cause.PERSON
    # The cloud tells this machine's addresses.
    return Cause.CLOCK if any(reason.startswith("addresses") for reason in reasons) else Cause.NODE


def _may_have_missed(first: Report) -> bool:
    """Whether a disk that the first reconcile waits for may have come before it was watched for."""
    return any(isinstance(disk, NoDisk) for disk in first.observed.storage.disks.values())


def tell(send: Callable[..., None], *words: str) -> None:
    """Tell systemd. A PID 1 that doesn't listen for a moment must not end a healthy daemon."""
    try:
        send(*words)
    except ProviderError as error:
        log.warning("%s", error)


async def _feed(notifier: Notifier, reconciles: Reconciles) -> None:
    """Feed the watchdog while the reconcile gets on. A hang ends in a restart then, which loses nothing (law 2)."""
    while notifier.watchdog_interval is not None:
        if not reconciles.busy or time.monotonic() - reconciles.last_sign < PASS_LIMIT:
            tell(notifier.watchdog)
        await asyncio.sleep(notifier.watchdog_interval)
