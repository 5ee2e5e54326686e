"""Since when a volume of this machine has been on its way: attaching, being detached, or attached without a disk.

Nothing but time tells one that is late from one that never comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct, field

from protokube.core.disks.model import NoDisk
from protokube.core.model import Unknown
from protokube.core.volumes.model import AttachState, CloudVolume

if TYPE_CHECKING:
    from protokube.core.observed import Observed

DEADLINE = 180.0
"""Seconds after which what is on its way counts as stuck. EC2 takes some seconds for each of these phases."""


class Phase(StrEnum):
    """What a volume on its way is waiting for."""

    ATTACHING = "attaching"
    DETACHING = "detaching"
    NO_DISK = "no disk"


_PHASES = {
    AttachState.ATTACHING: Phase.ATTACHING,
    AttachState.DETACHING: Phase.DETACHING,
    AttachState.BUSY: Phase.DETACHING,
}


class Arrivals(Struct, frozen=True):
    """Volume id → (phase, uptime in seconds at which it was first seen in it).

    A value: `seen` returns the next one. Losing it costs delay, never an effect.
    """

    since: Mapping[str, tuple[Phase, float]] = field(default_factory=dict)

    def seen(self, observed: Observed) -> Arrivals:
        """Take in a snapshot. What it doesn't know says nothing and changes nothing."""
        if isinstance(observed.instance, Unknown) or isinstance(observed.volumes, Unknown):
            return self
        since = {}
        for volume in observed.volumes:
            before = self.since.get(volume.id)
            phase = _phase(volume, observed.instance.id, observed, before[0] if before else None)
            if phase is not None:
                since[volume.id] = before if before and before[0] is phase else (phase, observed.uptime)
        return Arrivals(since)

    def stuck(self, volume_id: str, phase: Phase, uptime: float) -> bool:
        """Whether a volume has been in this phase for longer than anything that is well takes."""
        known = self.since.get(volume_id)
        return known is not None and known[0] is phase and uptime - known[1] >= DEADLINE


def _phase(volume: CloudVolume, instance: str, observed: Observed, before: Phase | None) -> Phase | None:
    attachment = volume.attachment_to(instance)
    if attachment is None:
        return None
    if attachment.state is not AttachState.ATTACHED:
        return _PHASES[attachment.state]
    disk = observed.disks.get(volume.id)
    if isinstance(disk, NoDisk):
        return Phase.NO_DISK
    unseen = disk is None or isinstance(disk, Unknown)
    return Phase.NO_DISK if unseen and before is Phase.NO_DISK else None
