"""Attach tracking: which volumes may be this machine's although EC2's answers don't show it.

EC2's answers lag behind the requests that it has accepted, and an answer to AttachVolume may be lost. A volume is

- requested when EC2 has accepted AttachVolume, when its answer was lost, or when it called the volume in use;
- unconfirmed while it was requested, or shown as this machine's, within `UNCONFIRMED_FOR` seconds, and no answer
  shows a holder. It is shown with `AttachState.UNCONFIRMED`, even when an answer leaves it out. The volumes in a
  young block device mapping count likewise: a daemon that was killed a moment ago may have requested them;
- denied when EC2 has refused it for its own properties: it is unconfirmed no more.

A volume that EC2 has accepted is not requested again within `LAG` seconds (`OutcomeUnknownError`). When it is still,
or again, available after that, EC2 has given the attachment up: for `FALLEN_FOR` seconds it is denied
(`VolumeDeniedError`).

No I/O and no clock. Use:

    attachments = Attachments()
    attachments.shown(answer)                      the volumes of an `Answer`, unconfirmed ones shown as such
    attachments.refusal(volume_id, now)            the error for a request that would be in vain, or None
    attachments.accepted(volume_id, device, now)   EC2 said yes
    attachments.requested(volume_id, device, now)  EC2 called it in use (`device` None), or its answer was lost
    attachments.denied(volume_id)                  EC2 refused this volume

The memory may be lost at any moment; EC2 itself refuses a second attachment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from protokube.cloudprovider.aws.answer import Answer
from protokube.core.volumes.model import Attachment, AttachState, CloudVolume
from protokube.errors import OutcomeUnknownError, ProviderError, VolumeDeniedError

UNCONFIRMED_FOR = 30.0
"""Seconds for which a volume may be this machine's although no answer shows it."""

LAG = 5.0
"""Seconds for which EC2's answers may lag behind an accepted request. Later, an `available` volume has fallen
back."""

FALLEN_FOR = 60.0
"""Seconds for which a volume that fell back to `available` is left alone. A reload forgets it."""


class _Ours(Struct, frozen=True):
    """A volume that may be this machine's: when that was last certain, its device name, and how it was last told."""

    at: float
    device: str | None
    volume: CloudVolume | None


class Attachments:
    """The volumes that were requested, or shown as this machine's. Not thread-safe."""

    def __init__(self) -> None:
        self._told: Mapping[str, CloudVolume] = {}
        self._ours: dict[str, _Ours] = {}
        self._accepted: dict[str, float] = {}
        """Volumes on their way to this machine, and when that was last certain."""

    def accepted(self, volume_id: str, device: str, now: float) -> None:
        """Note that EC2 has accepted an AttachVolume."""
        self._accepted[volume_id] = now
        self.requested(volume_id, device, now)

    def requested(self, volume_id: str, device: str | None, now: float) -> None:
        """Note that EC2 may have attached a volume, by this request or an earlier one."""
        known = self._ours.get(volume_id)
        device = device or (known.device if known else None)
        self._ours[volume_id] = _Ours(now, device, self._told.get(volume_id))

    def denied(self, volume_id: str) -> None:
        """Note that EC2 refuses to attach a volume."""
        self._ours.pop(volume_id, None)

    def refusal(self, volume_id: str, now: float) -> ProviderError | None:
        """The error for a request that would be in vain: EC2 has accepted the volume a moment ago."""
        waited = now - self._accepted.get(volume_id, -math.inf)
        if waited < LAG:
            return OutcomeUnknownError(_UNSEEN.format(volume_id))
        return VolumeDeniedError(_FELL_BACK.format(volume_id)) if waited < FALLEN_FOR else None

    def shown(self, answer: Answer) -> tuple[CloudVolume, ...]:
        """The volumes of an answer. A volume without a holder that may be this machine's is unconfirmed."""
        for volume in answer.volumes:
            self._take_in(volume, answer)
        self._ours = {one: ours for one, ours in self._ours.items() if answer.now - ours.at < UNCONFIRMED_FOR}
        self._told = {volume.id: volume for volume in answer.volumes}
        devices: dict[str, str | None] = {}
        if answer.young:
            devices |= {volume_id: name for name, volume_id in answer.devices.items()}
        devices |= {one: ours.device or devices.get(one) for one, ours in self._ours.items()}
        hidden = [
            ours.volume for one, ours in self._ours.items() if ours.volume is not None and one not in self._told
        ]
        return tuple(
            _unconfirmed(volume, answer.instance, devices[volume.id])
            if volume.id in devices and not volume.attachments
            else volume
            for volume in (*answer.volumes, *(replace(volume, attachments=()) for volume in hidden))
        )

    def _take_in(self, volume: CloudVolume, answer: Answer) -> None:
        mine = volume.attachment_to(answer.instance)
        if mine is not None:
            self._ours[volume.id] = _Ours(answer.now, mine.device, volume)
        elif volume.attachments:
            self._ours.pop(volume.id, None)
        elif (known := self._ours.get(volume.id)) is not None:
            self._ours[volume.id] = replace(known, volume=volume)
        if mine is not None and mine.state is AttachState.ATTACHING:
            self._accepted[volume.id] = answer.now
        elif volume.attachments:
            self._accepted.pop(volume.id, None)


def _unconfirmed(volume: CloudVolume, instance: str, device: str | None) -> CloudVolume:
    return replace(volume, attachments=(Attachment(instance, device, AttachState.UNCONFIRMED),))


_UNSEEN = "EC2 AttachVolume {}: EC2 has accepted it, and its answers don't show the attachment; they may lag behind"

_FELL_BACK = (
    "EC2 AttachVolume {}: EC2 accepted it, but the volume fell back from attaching to available. Most often its KMS "
    "key is disabled, or this instance's role may not use it: enable the key, and grant the role kms:CreateGrant and "
    f"kms:Decrypt on it (docs/aws.md). It is tried again {FALLEN_FOR:.0f} s later, or at once after a reload"
)
