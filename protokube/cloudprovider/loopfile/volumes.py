"""Volumes that are images behind loop devices; the kernel is the lock.

The node whose loop device holds the lock (flock) on an image holds the volume. The lock is taken on the
open file that the loop device then keeps. So it lasts as long as the device is in use (by this process, by a tool at
work on it, by a mount) and ends with it, even by a kill or a power cut. The holder's name stands in the state file.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from protokube.cloudprovider.loopfile import devices as loop
from protokube.cloudprovider.loopfile import images
from protokube.cloudprovider.loopfile.backing import Backing
from protokube.cloudprovider.loopfile.elsewhere import Elsewhere
from protokube.cloudprovider.loopfile.evidence import Evidence
from protokube.cloudprovider.loopfile.images import Look
from protokube.cloudprovider.static.inventory import Inventory, InventoryVolume
from protokube.cloudprovider.static.kinds import ADVICE, Seen
from protokube.cloudprovider.static.state import Daemon, State
from protokube.core.volumes.model import DiskIdentity, Obstacle
from protokube.errors import ProviderError, VolumeDeniedError, VolumeInUseError, explain

IMAGE_MISSING = "volume/image-missing"
MEMBER_ELSEWHERE = "volume/member-elsewhere"
_UNKNOWN_HOLDER = "an unknown holder"


class ImageVolumes:
    """The `file` volumes of an inventory; implements static.kinds.VolumeKind.

    `daemon` is this process: only mounts below its root count as this node's.
    """

    def __init__(self, inventory: Inventory, daemon: Daemon, evidence: Evidence, elsewhere: Elsewhere) -> None:
        self._paths = {volume.id: volume.image for volume in inventory.volumes if volume.image}
        self._volumes = tuple(volume for volume in inventory.volumes if volume.image)
        self._daemon = daemon
        self._evidence = evidence
        self._elsewhere = elsewhere
        self._backing = Backing()
        self._kept: dict[tuple[int, int], int] = {}
        """Loop devices that this process keeps open, by the file behind them."""
        self._looked = False

    def volumes(self) -> tuple[InventoryVolume, ...]:
        """See VolumeKind."""
        return self._volumes

    def look(self, remembered: Mapping[str, State]) -> Mapping[str, Seen]:
        """See VolumeKind. Evidence is looked for only where an image is missing or empty."""
        wanted = [volume for volume in self._volumes if volume.id in remembered]
        if not wanted:
            return {}
        # In this order: a loop device that is silent isn't behind an image whose filesystem answers after it.
        ours = self._ours()
        looks = self._looks()
        if not self._looked:
            looks |= self._after_a_kill(wanted, looks, ours, remembered)
            self._looked = True
        return {volume.id: self._seen(volume, looks[volume.id], ours, remembered[volume.id]) for volume in wanted}

    def attach(self, volume: InventoryVolume, remembered: State, remember: Callable[[], None]) -> None:
        """Bind the image to a loop device, under its lock; on first use the image is made.

        A crash before the mount undoes it.
        """
        ours = self._ours()
        look = self._looks()[volume.id]
        seen = self._seen(volume, look, ours, remembered)
        if seen.trouble:
            raise ProviderError(f"attach {volume.id}: {seen.trouble}")
        if seen.obstacle:
            raise VolumeDeniedError(f"attach {volume.id}: {seen.obstacle.reason}")
        if seen.holder == self._daemon.node:
            return
        path = self._paths[volume.id]
        holder = seen.holder or _UNKNOWN_HOLDER
        # An image that is gone since the look is no reason to make one.
        image = images.open_locked(path, volume.size, holder, make=look.missing)
        try:
            bound = loop.bound(self._backing)
            info = os.fstat(image)  # after it, so that the image's own filesystem is known to answer
            file = (info.st_dev, info.st_ino)
            if file in bound:
                raise VolumeInUseError(
                    f"attach {path}: another program's loop device has it; find it with losetup -l, and detach it"
                )
            # Before the first write to the image can happen, and never before the image is on disk.
            self._evidence.record(volume)
            # Before the loop device exists: a node that sees the device must read its true holder.
            remember()
            with explain(f"attach {path}", ADVICE):
                self._kept[file] = loop.bind(image)
            self._backing.learn(self._kept[file], file)
        finally:
            os.close(image)

    def close(self) -> None:
        """See VolumeKind."""
        while self._kept:
            os.close(self._kept.popitem()[1])

    # --- inside --------------------------------------------------------------------------------

    def _ours(self) -> set[tuple[int, int]]:
        """The files behind loop devices that this node holds: mounted below the root, or kept by this process."""
        mounted = loop.mounted_below(self._daemon.root, self._backing)
        for file in mounted & self._kept.keys():
            os.close(self._kept.pop(file))  # the mount keeps it from here on
        return mounted | self._kept.keys()

    def _after_a_kill(
        self,
        wanted: Iterable[InventoryVolume],
        looks: Mapping[str, Look],
        ours: set[tuple[int, int]],
        remembered: Mapping[str, State],
    ) -> dict[str, Look]:
        """The images, looked at anew, that an earlier process of this node has locked and no loop device has: it was
        killed a moment ago, and the kernel is about to let them go."""
        held = [
            volume
            for volume in wanted
            if (look := looks[volume.id]).held and look.file not in ours
            if (last := remembered[volume.id].holder) is not None and last.daemon == self._daemon
        ]
        bound = loop.bound(self._backing) if held else set()
        return {
            volume.id: images.look_after_a_kill(self._paths[volume.id], volume.size)
            for volume in held
            if looks[volume.id].file not in bound
        }

    def _looks(self) -> dict[str, Look]:
        """Every image, by the volume's id."""
        found = {volume.id: images.look(self._paths[volume.id], volume.size) for volume in self._volumes}
        shared = {file for file, count in Counter(look.file for look in found.values()).items() if file and count > 1}
        trouble = "its image is also another volume's, by a link: give each volume a file of its own"
        return {name: replace(look, trouble=trouble) if look.file in shared else look for name, look in found.items()}

    def _seen(self, volume: InventoryVolume, look: Look, ours: set[tuple[int, int]], remembered: State) -> Seen:
        obstacle = self._missing(volume) if look.missing else None
        if obstacle is None and look.pristine:
            obstacle = self._of_another(volume)
        return Seen(
            holder=self._holder(look, ours, remembered),
            identity=DiskIdentity(backing=look.file),
            pristine=True if look.pristine and not obstacle else None,
            trouble=look.trouble,
            obstacle=obstacle,
        )

    def _missing(self, volume: InventoryVolume) -> Obstacle | None:
        """The obstacle to making the missing image of a volume; None on first use."""
        evidence = self._evidence.of(volume)
        if not evidence:
            return None
        path = self._paths[volume.id]
        reason = (
            f"{path}: missing or empty, and was in use (shown by {', '.join(evidence)}); mount the folder of the "
            "images, or bring the image back. To give its data up, make an empty one: "
            f"truncate -s {volume.size} {shlex.quote(path)}"
        )
        return Obstacle(reason, IMAGE_MISSING)

    def _of_another(self, volume: InventoryVolume) -> Obstacle | None:
        """The obstacle to using the empty image of a member that another volume has."""
        shown = self._elsewhere.of(volume)
        if not shown:
            return None
        reason = (
            f"{self._paths[volume.id]}: empty, and its member has a filesystem on another volume (shown by "
            f"{', '.join(shown)}); give the etcd tag back to that volume. To give its data up, move that file away"
        )
        return Obstacle(reason, MEMBER_ELSEWHERE)

    def _holder(self, look: Look, ours: set[tuple[int, int]], remembered: State) -> str | None:
        """The node that holds a volume, None when none does."""
        if look.file in ours:
            return self._daemon.node
        if not look.held:
            return None
        last = remembered.holder
        if last is None:
            return _UNKNOWN_HOLDER
        if last.daemon == self._daemon and look.file in loop.bound(self._backing):
            return last.node  # a tool that outlived an earlier process of this node is at work on it
        if last.daemon == self._daemon:
            return f"{last.node} (without a loop device: another program locks the image; fuser -v names it)"
        if last.node == self._daemon.node:
            return f"{last.node} (another daemon, with root {last.root})"
        return last.node
