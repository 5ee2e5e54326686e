"""argv → configuration → the chosen adapters → the daemon, one settled node, or a dry run. And exit codes."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from protokube.config import Settings, read
from protokube.core.model import Fault
from protokube.daemon import Alarm, serve, settle
from protokube.errors import ConfigError, PermissionNeeded, UsageError
from protokube.host.notify import Notifier
from protokube.host.process import missing_tools
from protokube.lock import AlreadyRunning, Lock
from protokube.logs import set_up_logging
from protokube.observe import Observer
from protokube.output import as_json, as_text
from protokube.reconcile import Memory, Report, dry_run
from protokube.wiring import RUN_DIR, cloud_faults, wire

DONE, NOT_SETTLED, WORK_FOUND, USAGE, NOT_PERMITTED, BAD_CONFIG = 0, 1, 2, 64, 77, 78

log = logging.getLogger("protokube")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run protokube; the answer is its exit code."""
    started = time.monotonic()
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        settings = _load(given)
        set_up_logging(settings, sys.stderr)
        return _run(given, settings, started)
    except UsageError as error:
        print(f"protokube: {error}; see protokube --help", file=sys.stderr)
        return USAGE
    except ConfigError as error:
        for fault in error.faults:
            print(f"protokube: {fault}", file=sys.stderr)
        return BAD_CONFIG
    except PermissionNeeded as error:
        print(f"protokube: {error}", file=sys.stderr)
        return NOT_PERMITTED
    except AlreadyRunning as error:
        print(f"protokube: {error}", file=sys.stderr)
        return NOT_SETTLED


def _load(given: Sequence[str]) -> Settings:
    """The configuration; what would stop everything later stops it here, every reason at once, before any effect."""
    settings, faults = read(given, os.environ)
    if os.geteuid() != 0:
        raise PermissionNeeded("needs root: it reads and mounts disks; try sudo")
    folder = Path(settings.root, settings.node.manifest_dir.lstrip("/"))
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
    faults += cloud_faults(settings)
    if faults:
        raise ConfigError(faults)
    return settings


def _run(given: Sequence[str], settings: Settings, started: float) -> int:
    if settings.dry_run:
        report = asyncio.run(_dry_run(settings, started))
        print(as_json(report) if settings.output == "json" else as_text(report, planned=True))
        return WORK_FOUND if settings.detailed_exitcode and report.steps else DONE
    with Lock(Path(settings.root, RUN_DIR, "lock")):
        if settings.once:
            report = asyncio.run(_once(settings, started))
            print(as_json(report) if settings.output == "json" else as_text(report, planned=False))
            return DONE if report.settled else NOT_SETTLED
        asyncio.run(_daemon(given, settings, started))
        return DONE


async def _dry_run(settings: Settings, started: float) -> Report:
    loop = asyncio.get_running_loop()
    wired = wire(settings, loop, lambda _reason: None)
    try:
        # Only the reading half of the ports goes in: there is nothing in its hands that could write.
        return await asyncio.to_thread(dry_run, wired.config, Observer(wired.config, wired.readers, started=started))
    finally:
        wired.close()


async def _once(settings: Settings, started: float) -> Report:
    loop = asyncio.get_running_loop()
    alarm = Alarm(loop)
    wired = wire(settings, loop, alarm.ring)
    try:
        return await settle(settings, wired, alarm, started)
    finally:
        wired.close()


async def _daemon(given: Sequence[str], settings: Settings, started: float) -> None:
    loop = asyncio.get_running_loop()
    notifier = Notifier(os.environ)
    memory = Memory()
    again = True
    while again:
        alarm = Alarm(loop)
        wired = wire(settings, loop, alarm.ring)
        try:
            again = await serve(settings, wired, alarm, started, notifier, memory)
        finally:
            wired.close()
        if again:
            notifier.reloading()
            settings = _reloaded(given, settings)
            memory = memory.for_another_configuration()
    notifier.stopping("ending")


def _reloaded(given: Sequence[str], settings: Settings) -> Settings:
    """The configuration as it is now; the old one when the new one is wrong, which is said."""
    try:
        return _load(given)
    except ConfigError as error:
        for fault in error.faults:
            log.error("the new configuration is not used: %s", fault)
        return settings
