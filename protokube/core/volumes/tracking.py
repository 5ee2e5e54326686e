"""Attach tracking: since when a volume of this machine has been on its way, and what this reconcile has requested.

Only time tells a late volume from one that never comes. Losing this at any moment costs delay, never an effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from protokube.core.model import Unknown
from protokube.core.volumes.model import AttachState, CloudSnapshot, CloudVolume

DEADLINE = 180.0
"""Seconds after which a volume on its way counts as stuck. EC2 takes some seconds for each of these phases."""


class Phase(StrEnum):
    """The event that a volume on its way waits for."""

    ATTACHING = "attaching"
    DETACHING = "detaching"
    NO_DISK = "no disk"


PHASES = {
    AttachState.ATTACHING: Phase.ATTACHING,
    AttachState.DETACHING: Phase.DETACHING,
    AttachState.BUSY: Phase.DETACHING,
}


class AttachTracking(Struct, frozen=True):
    """The history of attachments.

    `since`: volume → (phase, uptime in seconds at which it was first seen in it). `requested`: volumes that this
    reconcile has requested and may have got. `denied`: those that the cloud will not give to this machine. `failed`:
    those whose request failed in this reconcile, for any reason.
    """

    uptime: float = 0.0
    since: Mapping[str, tuple[Phase, float]] = {}
    requested: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()

    def seen(self, uptime: float, cloud: CloudSnapshot, disks: Mapping[str, bool]) -> AttachTracking:
        """Take in a snapshot. `disks`: volume → whether its disk was found; Unknown parts change nothing."""
        if isinstance(cloud.instance, Unknown) or isinstance(cloud.volumes, Unknown):
            return replace(self, uptime=uptime)
        since = {}
        for volume in cloud.volumes:
            before = self.since.get(volume.id)
            phase = _phase(volume, cloud.instance.id, disks.get(volume.id), before[0] if before else None)
            if phase is not None:
                since[volume.id] = before if before and before[0] is phase else (phase, uptime)
        return replace(self, uptime=uptime, since=since)

    def recorded(
        self, volume_id: str, *, done: bool, uncertain: bool = False, denied: bool = False
    ) -> AttachTracking:
        """Record the outcome of a request: done, uncertain, denied for good, or failed."""
        return replace(
            self,
            requested=self.requested | {volume_id} if done or uncertain else self.requested,
            denied=self.denied | {volume_id} if denied else self.denied,
            failed=self.failed if done else self.failed | {volume_id},
        )

    def stuck(self, volume_id: str, phase: Phase) -> bool:
        """Whether a volume has been in this phase for longer than any healthy one takes."""
        known = self.since.get(volume_id)
        return known is not None and known[0] is phase and self.uptime - known[1] >= DEADLINE


def _phase(volume: CloudVolume, instance: str, disk: bool | None, before: Phase | None) -> Phase | None:
    attachment = volume.attachment_to(instance)
    if attachment is None:
        return None
    if attachment.state is not AttachState.ATTACHED:
        return PHASES.get(attachment.state)
    if disk is False:
        return Phase.NO_DISK
    return Phase.NO_DISK if disk is None and before is Phase.NO_DISK else None
