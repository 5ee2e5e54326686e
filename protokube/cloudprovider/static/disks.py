"""Volumes that are block devices of this machine: always attached to it, and to no other."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from protokube.cloudprovider.static.inventory import Inventory, InventoryVolume
from protokube.cloudprovider.static.kinds import Seen
from protokube.cloudprovider.static.state import State
from protokube.core.volumes.model import DiskIdentity
from protokube.errors import ProviderError, explain


class MachineDisks:
    """The `device` volumes of an inventory; implements kinds.VolumeKind. `node` is this node's name."""

    def __init__(self, inventory: Inventory, node: str) -> None:
        self._volumes = tuple(volume for volume in inventory.volumes if volume.device)
        self._node = node

    def volumes(self) -> tuple[InventoryVolume, ...]:
        """See VolumeKind."""
        return self._volumes

    def look(self, remembered: Mapping[str, State]) -> Mapping[str, Seen]:
        """See VolumeKind."""
        return {volume.id: self._seen(volume) for volume in self._volumes if volume.id in remembered}

    def attach(self, volume: InventoryVolume, remembered: State, remember: Callable[[], None]) -> None:  # noqa: ARG002
        """See VolumeKind. A disk of the machine is attached already; it only has to be there."""
        if trouble := _trouble(volume):
            raise ProviderError(f"attach {volume.id}: {trouble}")

    def close(self) -> None:
        """See VolumeKind. Nothing is kept open."""

    def _seen(self, volume: InventoryVolume) -> Seen:
        identity, trouble = DiskIdentity(path=volume.device), _trouble(volume)
        return Seen(None if trouble else self._node, identity, trouble=trouble)


def _trouble(volume: InventoryVolume) -> str | None:
    """Why a disk can't serve; None when it can."""
    device = volume.device or ""
    with explain(f"look at {device}"):
        try:
            mode = Path(device).stat().st_mode
        except FileNotFoundError:
            return f"{device} is not on this machine"
    return None if stat.S_ISBLK(mode) else f"{device} is not a block device"
