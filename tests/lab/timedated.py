"""A stand-in for systemd-timedated, for nodes whose machine has no time service that could be asked about.

The clock is in sync while IN_SYNC exists. Lay out FILES over a SystemdNode.
"""

from __future__ import annotations

from tests.lab import inside

SERVICE = "systemd-timedated.service"
IN_SYNC = "/run/clock-in-sync"

_PROGRAM = f"""#!{inside.PYTHON}
import asyncio
from pathlib import Path
from dbus_next import BusType, PropertyAccess
from dbus_next.aio import MessageBus
from dbus_next.service import ServiceInterface, dbus_property

class Timedate(ServiceInterface):
    @dbus_property(access=PropertyAccess.READ)
    def NTPSynchronized(self) -> "b":
        return Path("{IN_SYNC}").exists()

async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    bus.export("/org/freedesktop/timedate1", Timedate("org.freedesktop.timedate1"))
    await bus.request_name("org.freedesktop.timedate1")
    await bus.wait_for_disconnect()

asyncio.run(main())
"""

FILES = {
    "/usr/local/bin/timedated": _PROGRAM,
    # The Python of a checkout may lie below a home.
    f"/etc/systemd/system/{SERVICE}.d/standin.conf": (
        "[Service]\nProtectHome=no\nExecStart=\nExecStart=/usr/local/bin/timedated\n"
    ),
}
