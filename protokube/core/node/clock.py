"""The clock: certificates are made by it, so it is waited for, with a limit."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from protokube.core.model import Rejected
from protokube.core.node.machine import MachineFacts

RULE = "time/unsynchronised"
BUILT = 1795824000.0
"""2026-11-28 00:00 UTC: no right clock is before the day of this release."""

LIMIT = 90
"""Seconds that a boot waits for the clock. chrony-wait.service has 180 of its own, the other one none at all."""

SERVICES: Mapping[str, str] = {
    "chrony": "chrony-wait.service",
    "systemd-timesyncd": "systemd-time-wait-sync.service",
    "ntpsec": "ntpsec-wait.service",
}
"""Debian package → the unit that time-sync.target waits for. time-sync.target is reached at once without it."""

WANTED_BY: Mapping[str, str] = {
    "chrony-wait.service": "multi-user.target",
    "systemd-time-wait-sync.service": "sysinit.target",
    "ntpsec-wait.service": "multi-user.target",
}
"""As these units' [Install] sections say."""

DAEMONS: Mapping[str, str] = {
    "chrony": "chrony.service",
    "systemd-timesyncd": "systemd-timesyncd.service",
    "ntpsec": "ntpsec.service",
    "ntp": "ntp.service",
    "openntpd": "openntpd.service",
}
"""Debian package → the unit that keeps the time."""

OTHERS = ("ntp", "openntpd")
"""Packages that keep time without a unit to wait for."""


def time_package(packages: Collection[str]) -> str | None:
    """The one of these packages that keeps the time; None when none does."""
    return next((name for name in (*SERVICES, *OTHERS) if name in packages), None)


def clock_problem(machine: MachineFacts) -> tuple[Rejected, bool] | None:
    """What is wrong with a running clock, and whether nothing that makes certificates may start."""
    running = machine.running
    if running is None:
        return None
    if running.clock < BUILT:
        return Rejected(
            RULE, "the clock is before the day on which this nodeup was released; set it, or let a time server do so"
        ), True
    if running.synchronised is False:
        return Rejected(
            RULE, "no time service says that the clock is right; `timedatectl` tells more. Certificates need it"
        ), False
    return None
