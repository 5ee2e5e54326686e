"""This machine, now: files, packages, modules and sysctls, and its systemd over D-Bus."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nodeup.assets.port import AssetFiles
from nodeup.facts import TreeReader
from nodeup.machine import RunningMachine
from nodeup.observe import Observer, Readers
from nodeup.sources import Source
from protokube.host.files import NodeFiles
from protokube.ports import Writers

if TYPE_CHECKING:
    from protokube.host.systemd import SystemBus


@contextmanager
def this_machine(source: Source, root: str, cache: str | None) -> Iterator[tuple[Observer, Writers]]:
    """The machine below `root`, which is the running one, to look at and to act on."""
    files, assets = NodeFiles(root), AssetFiles(root, cache)
    with _bus(root) as bus:
        readers = Readers(TreeReader(root, running=True), files, assets, bus)
        observer = Observer(source, readers)
        yield observer, {"files": files, "assets": assets, "machine": RunningMachine(root), "services": bus}


@contextmanager
def _bus(root: str) -> Iterator[SystemBus]:
    """The system bus; its connection is made on first use, and lives in a loop of its own."""
    from protokube.host.systemd import SystemBus

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="system bus", daemon=True)
    thread.start()
    address = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or f"unix:path={Path(root, 'run/dbus/system_bus_socket')}"
    bus = SystemBus(loop, address)
    try:
        yield bus
    finally:
        bus.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
