"""Device names: the one that a volume is requested under, or the obstacle to it.

EC2 wants a name with every AttachVolume, and refuses one that is in use on the instance.

Invariant: until EC2's answers show the disk that has a name, or `PATIENCE` seconds have passed, all volumes of one
etcd cluster are requested under that same name. So EC2 itself refuses a second volume of an etcd cluster while its
answers don't show the first. `main` begins with the first name, `events` with the second, other etcd clusters with
the third.

A name is

- in use, and passed over, when an attachment to this machine has it, or when the block device mapping gives it to a
  disk that DescribeVolumes doesn't list;
- conflicting when nothing that is shown has it, and EC2 has refused it within `CONFLICT_FOR` seconds, or the kernel
  has it, or a young mapping gives it to a volume that DescribeVolumes doesn't list. It is waited for during
  `PATIENCE` seconds, since a volume of this machine may have it, and then passed over.

No I/O and no clock. Use, in this order:

    slots = Slots()
    slots.look(answer)                 once per `Answer`; forgets old entries
    slots.choose("main")               "/dev/xvdu" to request a volume under, or the Obstacle
    slots.conflict("/dev/xvdu", now)   EC2 refused that name as being in use; `look` again before the next `choose`

The memory may be lost at any moment: EC2 refuses a name that is in use.
"""

from __future__ import annotations

from collections.abc import Iterable

from protokube.cloudprovider.aws.answer import Answer
from protokube.core.model import Unknown
from protokube.core.volumes.model import FIRST, Obstacle

DEVICE_NAMES = tuple(f"/dev/xvd{letter}" for letter in "uvwxyzfghijklmnopqrst")
"""The names for requests, in order: those that kops uses, then the other ones that EC2 recommends."""

PATIENCE = 30.0
"""Seconds after which a conflicting name is passed over. EC2's answers converge within seconds."""

CONFLICT_FOR = 600.0
"""Seconds for which a name that EC2 refused counts as conflicting."""

NO_NAME = "volume/no-device-name"
"""The rule by which a volume is refused when all names are in use."""


class Slots:
    """The names in use, and since when names have been conflicting. Not thread-safe."""

    def __init__(self) -> None:
        self._now = 0.0
        self._used: frozenset[str] = frozenset()
        self._unread: str | None = None
        self._refused: dict[str, float] = {}
        """Name → when EC2 refused it last."""
        self._unexplained: dict[str, float] = {}
        """Name → since when the kernel or a young mapping has had it, by nothing that is shown."""

    def look(self, answer: Answer) -> None:
        """Take in an answer."""
        self._now = answer.now
        told = {volume.id for volume in answer.volumes}
        ours = (one.device for volume in answer.volumes if (one := volume.attachment_to(answer.instance)))
        shown = _spellings(filter(None, ours))
        mapped = _spellings(name for name, volume_id in answer.devices.items() if volume_id not in told)
        doubtful = mapped.intersection(DEVICE_NAMES) - shown if answer.young else frozenset[str]()
        self._used = (mapped | shown) - doubtful
        self._refused = {name: at for name, at in self._refused.items() if answer.now - at < CONFLICT_FOR}
        if isinstance(answer.kernel, Unknown):
            self._unread = answer.kernel.reason
            return
        self._unread = None
        seen = (_spellings(answer.kernel).intersection(DEVICE_NAMES) | doubtful) - self._used
        self._unexplained = {name: self._unexplained.get(name, answer.now) for name in seen}

    def conflict(self, device: str, now: float) -> None:
        """Note that EC2 refused a name as being in use."""
        self._now = max(self._now, now)
        self._refused[device] = now

    def choose(self, cluster: str) -> str | Obstacle:
        """The name for a volume of the etcd cluster `cluster` (`main`, `events`, …), or why there is none now."""
        if self._unread is not None:
            return Obstacle(f"the device names in use aren't known: {self._unread}")
        since = self._unexplained | self._refused
        free = [name for name in _in_order(cluster) if name not in self._used]
        name = next((one for one in free if self._now - since.get(one, self._now) < PATIENCE), None)
        if name is None:
            return Obstacle(f"all device names are in use: {', '.join(sorted(self._used | since.keys()))}", NO_NAME)
        if name in since:
            return Obstacle(f"{name} is in use, and the cloud doesn't show by what")
        return name


def _in_order(cluster: str) -> tuple[str, ...]:
    first = FIRST.get(cluster, len(FIRST))
    return DEVICE_NAMES[first:] + DEVICE_NAMES[:first]


def _spellings(devices: Iterable[str]) -> frozenset[str]:
    """Device names with the kernel's spelling added: EC2 takes /dev/sdf and xvdf for Xen's /dev/xvdf."""
    names = set()
    for device in devices:
        bare = device.removeprefix("/dev/")
        names |= {device, f"/dev/{bare}"}
        if bare.startswith("sd"):
            names.add(f"/dev/xvd{bare.removeprefix('sd')}")
    return frozenset(names)
