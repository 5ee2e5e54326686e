"""Growing pauses between the starts of a unit that doesn't stay up.

A cause that passes, such as a container runtime that starts later, costs at most a minute. Losing this at any moment
costs one start too many.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

WINDOW = 600.0
"""Seconds for which a start counts: a unit that stayed up longer is started again at once."""
# The unit in Kubernetes's own packages restarts kubelet every 10 s (kubernetes/release, kubelet.service).
# A minute is the longest that a repaired node should wait for it.
LONGEST = 60.0
HOUR = 3600.0


class UnitTracking(Struct, frozen=True):
    """Unit → the uptimes, in seconds, of its starts within the last hour; `restarts` are those of restarts alone."""

    starts: Mapping[str, tuple[float, ...]] = {}
    restarts: Mapping[str, tuple[float, ...]] = {}

    def started(self, unit: str, uptime: float) -> UnitTracking:
        """Record one start."""
        return replace(self, starts=_with(self.starts, unit, uptime))

    def restarted(self, unit: str, uptime: float) -> UnitTracking:
        """Record one restart, which is a start as well."""
        return replace(self.started(unit, uptime), restarts=_with(self.restarts, unit, uptime))

    def pause(self, unit: str, uptime: float, restarts: int) -> float:
        """Seconds to leave a unit alone that is down. `restarts` are systemd's own since its last start."""
        recent = [time for time in self.starts.get(unit, ()) if uptime - time < WINDOW]
        attempts = len(recent) + restarts
        # A unit that went down once is started again at once: most causes pass, and the control plane waits.
        if not recent or attempts < 2:
            return 0.0
        return max(0.0, recent[-1] + min(LONGEST, 2.0 ** min(attempts - 2, 16)) - uptime)

    def restart_pause(self, unit: str, uptime: float, most: int) -> float:
        """Seconds to leave a unit alone that is up and was restarted `most` times within the last hour."""
        recent = [time for time in self.restarts.get(unit, ()) if uptime - time < HOUR]
        return recent[-most] + HOUR - uptime if len(recent) >= most else 0.0


def _with(times: Mapping[str, tuple[float, ...]], unit: str, uptime: float) -> Mapping[str, tuple[float, ...]]:
    recent = tuple(time for time in times.get(unit, ()) if uptime - time < HOUR)
    return {**times, unit: (*recent, uptime)}
