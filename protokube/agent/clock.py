"""The clocks. Durations are counted in boot time: nobody sets it, and a suspended machine is late, not early."""

from __future__ import annotations

import time


def boot_time() -> float:
    """Seconds since the machine was switched on."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall_time() -> float:
    """Seconds since the epoch, for times that people read."""
    return time.time()
