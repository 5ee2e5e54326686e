"""The facts of EC2 and the kernel at one moment, from which attach tracking and device names are judged."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from protokube.core.model import Unknown
from protokube.core.volumes.model import CloudVolume


class Answer(Struct, frozen=True):
    """One look, not judged yet.

    `now` is in seconds, of any clock that never goes back; all times of one attach tracking come from one clock.
    `instance` is this machine's id. `volumes` are those of DescribeVolumes. `devices` maps each name in this
    machine's block device mapping to a volume's id, or to "" for a disk that is no volume. `young` says that the
    mapping was read so recently that it may know of an attachment that `volumes` doesn't show yet. `kernel` are the
    names below /sys/block, such as `xvda` or `nvme0n1`.
    """

    now: float
    instance: str
    volumes: tuple[CloudVolume, ...]
    devices: Mapping[str, str] = field(default_factory=dict)
    young: bool = False
    kernel: frozenset[str] | Unknown = frozenset()
