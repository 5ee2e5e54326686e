"""The port between the provider and the kinds of volume: the provider knows no kind by name."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct

from protokube.cloudprovider.static.inventory import InventoryVolume
from protokube.cloudprovider.static.state import State
from protokube.core.volumes.model import DiskIdentity, Obstacle

ADVICE = {
    errno.EPERM: "run it as root; a container needs the right to use loop devices",
    errno.EROFS: "that filesystem is read-only: keep the inventory's files on a writable one",
}
"""Advice for images and the files beside them, by error number, where the usual advice would mislead."""


class Seen(Struct, frozen=True):
    """A volume's disk, as it stands now.

    `holder` is the node that has it attached, None when no node has. `trouble` says why it can't serve, `obstacle`
    says what keeps this machine from attaching it. `pristine` is True when it is proven that nothing was ever
    written.
    """

    holder: str | None = None
    identity: DiskIdentity = DiskIdentity()
    pristine: bool | None = None
    trouble: str | None = None
    obstacle: Obstacle | None = None


class VolumeKind(Protocol):
    """The volumes of an inventory that have one kind of disk. The caller serialises the calls."""

    def volumes(self) -> tuple[InventoryVolume, ...]:
        """The volumes of this kind."""

    def look(self, remembered: Mapping[str, State]) -> Mapping[str, Seen]:
        """The disks of those volumes of this kind that `remembered` names, by id. Nothing is made or written."""

    def attach(self, volume: InventoryVolume, remembered: State, remember: Callable[[], None]) -> None:
        """Attach a volume to this machine. Do nothing when it is attached.

        `remember` writes down the new holder. It is called once the volume can't be another node's any more, and
        before any other program can see its disk.
        """

    def close(self) -> None:
        """Let go of disks that are attached and not mounted."""
