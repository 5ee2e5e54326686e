"""What is watched outside, so that the loop wakes: files, processes, addresses."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from protokube.alarm import Alarm
from protokube.config.wiring import Wired
from protokube.core.disks.model import NoDisk
from protokube.errors import ProviderError
from protokube.host.networkevents import watch_addresses
from protokube.host.watch import APPEARANCE, CHANGE, DirectoryWatcher, wake_at_exit
from protokube.report.model import Report

log = logging.getLogger("protokube")


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


def may_have_missed(first: Report) -> bool:
    """Whether a disk that the first reconcile waits for may have come before it was watched for."""
    return any(isinstance(disk, NoDisk) for disk in first.observed.storage.disks.values())
