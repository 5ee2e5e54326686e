"""argv → configuration → the chosen adapters → the daemon, --once, a dry run, accept, pki or etcd; exit codes.

asyncio and the daemon are imported inside functions: they load when the first reconcile waits, or is done.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protokube.alarm import Alarm
from protokube.config.choice import Chosen, choose
from protokube.config.load import Settings, read
from protokube.config.options import command_of
from protokube.config.wiring import RUN_DIR, wire
from protokube.core.model import Fault
from protokube.errors import ConfigError, PermissionNeededError, UsageError
from protokube.eventloop import EventLoop
from protokube.host.process import missing_tools
from protokube.lock import AlreadyRunningError, Lock
from protokube.logs import set_up_logging
from protokube.observe.asking import LIMIT as READ_LIMIT
from protokube.observe.observer import Observer
from protokube.reconcile import Memory, dry_run
from protokube.reconciles import Reconciles
from protokube.report.model import Report
from protokube.together import Limited

if TYPE_CHECKING:
    from protokube.daemon.serve import Running

DONE, NOT_CONVERGED, WORK_FOUND, USAGE, NOT_PERMITTED, BAD_CONFIG = 0, 1, 2, 64, 77, 78

HEAD_START = 0.3
"""Seconds for which the daemon's first reconcile has the processor to itself: what its loop loads takes 40 ms. Until
then signals end the program, as they do while it loads."""

log = logging.getLogger("protokube")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run protokube, and return its exit code."""
    started = time.monotonic()
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        chosen = _load(given, strict=False)
        set_up_logging(chosen.settings, sys.stderr)
        return _run(given, chosen, started)
    except UsageError as error:
        print(f"protokube: {error}; see protokube --help", file=sys.stderr)
        return USAGE
    except ConfigError as error:
        for fault in error.faults:
            print(f"protokube: {fault}", file=sys.stderr)
        return BAD_CONFIG
    except PermissionNeededError as error:
        print(f"protokube: {error}", file=sys.stderr)
        return NOT_PERMITTED
    except AlreadyRunningError as error:
        print(f"protokube: {error}", file=sys.stderr)
        return NOT_CONVERGED


def _load(given: Sequence[str], *, strict: bool) -> Chosen:
    """Read the configuration and every file that it names. Raises ConfigError with every fault, before any effect.

    Unless `strict`, the daemon starts in spite of faults in kubelet's settings: they concern kubelet's files alone,
    and kubelet goes on with the last good ones.
    """
    settings, faults = read(given, os.environ)
    if strict or settings.once or settings.dry_run:
        faults += settings.node.kubelet.faults
    if os.geteuid() != 0:
        raise PermissionNeededError("needs root: it reads and mounts disks; try sudo")
    folder = Path(settings.root, settings.node.etcd.manifest_dir.lstrip("/"))
    faults += [
        Fault(str(place), "a file where a directory was expected, for the manifest folder")
        for place in (folder, *folder.parents)
        if place.exists() and not place.is_dir()
    ]
    if settings.node.master:
        faults += [
            Fault(tool, f"the tool is missing; install the package {package}")
            for tool, package in missing_tools().items()
        ]
    return choose(settings, faults)


def _run(given: Sequence[str], chosen: Chosen, started: float) -> int:
    settings = chosen.settings
    if command_of(given) is not None:
        return DONE if _command(given, chosen, started) else NOT_CONVERGED
    if settings.dry_run:
        reading = Limited[object](READ_LIMIT, "reading")
        report = _dry_run(chosen, started, reading)
        _print(report, settings, planned=True)
        _say_hanging(reading)
        return WORK_FOUND if settings.detailed_exitcode and report.steps else DONE
    with Lock(Path(settings.root, RUN_DIR, "lock")):
        return _work(given, chosen, started)


def _command(given: Sequence[str], chosen: Chosen, started: float) -> bool:
    """Run a command beside the daemon. Each is loaded when it is given."""
    from protokube.config.commands import accept_command, etcd_command, pki_command, token_command

    if (refusal := accept_command(given)) is not None:
        from protokube.accept import accept

        return accept(refusal, chosen, started)
    if (about := pki_command(given)) is not None:
        from protokube.pkicommand import pki

        return pki(about, chosen)
    if (asked := etcd_command(given)) is not None:
        from protokube.etcdcommand.run import etcd

        return etcd(asked, chosen, started)
    from protokube.tokencommand import token

    tokens = token_command(given)
    assert tokens is not None, "one of the commands was given"
    return token(tokens, chosen)


def _work(given: Sequence[str], chosen: Chosen, started: float) -> int:
    """Begin the first reconcile, and load asyncio once that leaves room for it."""
    settings = chosen.settings
    loop, alarm = EventLoop(), Alarm()
    wired = wire(chosen, loop, alarm.ring)
    reconciles = Reconciles(settings, wired, started, Memory(), alarm.ring)
    first = reconciles.begin()
    loop.wait_until_wanted(first, None if settings.once else HEAD_START)
    if settings.once and first.done() and first.result().converged:
        wired.close()
        return _tell(first.result(), settings, reconciles.memory)
    import asyncio

    async def once() -> Report:
        from protokube.daemon.once import converge

        loop.runs(asyncio.get_running_loop())
        try:
            return await converge(settings, wired, alarm, reconciles, first)
        finally:
            wired.close()

    async def serve() -> None:
        from protokube.daemon.serve import Running

        loop.runs(asyncio.get_running_loop())
        await _serve(given, Running(chosen, wired, alarm, reconciles, first))

    if not settings.once:
        asyncio.run(serve())
        return DONE
    return _tell(asyncio.run(once()), settings, reconciles.memory)


def _tell(report: Report, settings: Settings, memory: Memory) -> int:
    """Print the report of --once; its exit code."""
    _print(report, settings, planned=False)
    _say_hanging(memory.reading, memory.acting)
    return DONE if report.converged else NOT_CONVERGED


def _print(report: Report, settings: Settings, *, planned: bool) -> None:
    if settings.output == "json":
        from protokube.report.json import as_json

        print(as_json(report), flush=True)
        return
    from protokube.report.text import as_text

    print(as_text(report, planned=planned), flush=True)


async def _serve(given: Sequence[str], running: Running) -> None:
    """Run the daemon. A SIGHUP ends one configuration and begins the next."""
    from protokube.daemon.serve import serve
    from protokube.daemon.words import tell
    from protokube.host.notify import Notifier

    notifier = Notifier(os.environ)
    while True:
        try:
            again = await serve(running, notifier)
        finally:
            running.wired.close()
        if not again:
            break
        tell(notifier.reloading)
        chosen = running.chosen
        try:
            chosen = _load(given, strict=True)
            set_up_logging(chosen.settings, sys.stderr)
        except ConfigError as error:
            for fault in error.faults:
                log.error("the new configuration is not used: %s", fault)
        running = _begin_again(chosen, running)
    tell(notifier.stopping, "ending")


def _begin_again(chosen: Chosen, before: Running) -> Running:
    """Begin the next configuration. A call that hangs since the one before is not started a second time."""
    import asyncio

    from protokube.daemon.serve import Running

    loop, alarm = EventLoop(), Alarm()
    loop.runs(asyncio.get_running_loop())
    wired = wire(chosen, loop, alarm.ring, before.wired.disks)
    memory = before.reconciles.memory.for_another_configuration()
    reconciles = Reconciles(chosen.settings, wired, before.reconciles.started, memory, alarm.ring)
    return Running(chosen, wired, alarm, reconciles, reconciles.begin())


def _say_hanging(*calls: Limited[Any]) -> None:
    """Say why the program may not end now: the kernel lets no process go whose thread waits for a disk."""
    if hanging := [one for limited in calls for one in limited.hanging()]:
        log.warning(
            "all is said, and nothing more is done; but the kernel may keep this process until these calls end: %s",
            ", ".join(hanging),
        )


def _dry_run(chosen: Chosen, started: float, reading: Limited[object]) -> Report:
    import asyncio

    loop = EventLoop()
    wired = wire(chosen, loop, lambda _reason: None)

    async def look() -> Report:
        loop.runs(asyncio.get_running_loop())
        # Only the reading half of the ports goes in: a dry run holds nothing that could write (law 7).
        observer = Observer(wired.config.for_dry_run(), wired.readers, started=started, reading=reading)
        try:
            return await asyncio.to_thread(dry_run, observer)
        finally:
            wired.close()

    return asyncio.run(look())
