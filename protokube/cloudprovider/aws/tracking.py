"""Attach tracking and device names together: the volumes of an answer, and one request with its outcome.

    tracking = Tracking(time.monotonic)
    volumes = tracking.shown(answer)               an `Answer` → the volumes for the core
    with tracking.request(volume_id) as device:    raises the error that forbids it; else the name to request it under
        …                                          AttachVolume; its error is taken in, and raised again

In `shown`, a volume that EC2 shows without a holder bears `AttachState.UNCONFIRMED` while it may be this machine's,
and an `Obstacle` while no device name can be had for it. `request` judges by the last answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from protokube.cloudprovider.aws.answer import Answer
from protokube.cloudprovider.aws.attachments import Attachments
from protokube.cloudprovider.aws.slots import Slots
from protokube.core.volumes.model import AttachState, CloudVolume, Obstacle
from protokube.core.volumes.tags import etcd_clusters
from protokube.errors import (
    DeviceConflictError,
    OutcomeUnknownError,
    ProviderError,
    VolumeDeniedError,
    VolumeInUseError,
)


class Tracking:
    """The memory of requests and names. `clock` is the one that gives `Answer.now`; thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._attachments = Attachments()
        self._slots = Slots()
        self._clusters: dict[str, str] = {}
        """Volume → the one etcd cluster that its tags name."""

    def shown(self, answer: Answer) -> tuple[CloudVolume, ...]:
        """The volumes of an answer, with unconfirmed attachments and with obstacles to a request."""
        with self._lock:
            self._slots.look(answer)
            volumes = self._attachments.shown(answer)
            self._clusters = {
                volume.id: keys[0] for volume in volumes if len(keys := etcd_clusters(volume.tags)) == 1
            }
            chosen = {key: self._slots.choose(key) for key in set(self._clusters.values())}
        obstacles = {key: one for key, one in chosen.items() if isinstance(one, Obstacle)}
        if not obstacles:
            return volumes
        return tuple(self._with_obstacle(volume, obstacles) for volume in volumes)

    @contextmanager
    def request(self, volume_id: str) -> Iterator[str]:
        """Yield the device name for one AttachVolume; take in its outcome.

        Raises OutcomeUnknownError, VolumeDeniedError or ProviderError, without a call, where a request would be in
        vain.
        """
        device: str | None = None
        try:
            device = self._begin(volume_id)
            yield device
        except (VolumeInUseError, VolumeDeniedError, OutcomeUnknownError, DeviceConflictError) as error:
            self._take_in(volume_id, device, error)
            raise
        with self._lock:
            self._attachments.accepted(volume_id, device, self._clock())

    def _begin(self, volume_id: str) -> str:
        with self._lock:
            if (refusal := self._attachments.refusal(volume_id, self._clock())) is not None:
                raise refusal
            # A volume that no answer has shown serves no known etcd cluster: it gets the name of none.
            device = self._slots.choose(self._clusters.get(volume_id, ""))
        if isinstance(device, Obstacle):
            raise ProviderError(f"EC2 AttachVolume {volume_id}: {device.reason}")
        return device

    def _take_in(self, volume_id: str, device: str | None, error: ProviderError) -> None:
        with self._lock:
            if isinstance(error, DeviceConflictError):
                self._slots.conflict(error.device, self._clock())
            elif isinstance(error, VolumeDeniedError):
                self._attachments.denied(volume_id)
            elif device is not None:  # else EC2 was not asked
                in_use = isinstance(error, VolumeInUseError)  # by an earlier request, so under an unknown name
                self._attachments.requested(volume_id, None if in_use else device, self._clock())

    def _with_obstacle(self, volume: CloudVolume, obstacles: dict[str, Obstacle]) -> CloudVolume:
        obstacle = obstacles.get(self._clusters.get(volume.id, ""))
        claimable = all(one.state is AttachState.UNCONFIRMED for one in volume.attachments)
        return replace(volume, obstacle=obstacle) if obstacle and claimable else volume
