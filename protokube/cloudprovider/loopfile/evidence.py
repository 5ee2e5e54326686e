"""Evidence that a volume's image was in use once: a missing one is never made a second time then.

The folder of the images may be away: a disk that wasn't mounted at boot, say. An empty image in its place would
become an empty etcd cluster. So an image is made only where nothing on the machine shows an earlier one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from protokube.cloudprovider.static.inventory import InventoryVolume
from protokube.cloudprovider.static.kinds import ADVICE
from protokube.cloudprovider.static.state import write_file
from protokube.core.model import KIB
from protokube.core.volumes.model import MOUNT_PREFIX
from protokube.errors import explain
from protokube.kernel import calls

_MANIFEST_LIMIT = 256 * KIB
"""etcd's manifests have some 3 KiB, and name their volume in each of them."""


class Evidence:
    """Looks below the real path `root`, with the manifest folder `manifests` below it, and beside the inventory."""

    def __init__(self, root: str, manifests: str) -> None:
        self._root = root
        self._manifests = Path(root, manifests.lstrip("/"))

    def of(self, volume: InventoryVolume) -> tuple[str, ...]:
        """The paths that show it; none when the image was never in use. Raises ProviderError when that can't be read.

        - the record beside the inventory, which all nodes that share the inventory can read;
        - the state file, when only the image was lost;
        - the mount point, and the manifests or links to them that kubelet has: they stay with the node.
        """
        with explain(f"look for evidence of {volume.id}"):
            beside = [path for path in (volume.record, volume.state) if path and Path(path).exists()]
            mount_point = Path(self._root, f"{MOUNT_PREFIX}{volume.id}".lstrip("/"))
            used = [str(mount_point)] if _was_mounted(mount_point) else []
            return (*beside, *used, *self._manifests_of(volume.id))

    def record(self, volume: InventoryVolume) -> None:
        """Write down that the image is about to be used; on disk when this returns. An earlier record stays."""
        with explain(f"write {volume.record}", ADVICE):
            if volume.record and not Path(volume.record).exists():
                write_file(volume.record, f"{volume.image} has been in use: no other image is made for {volume.id}\n")

    def _manifests_of(self, volume_id: str) -> Iterator[str]:
        """The entries of the manifest folder that name the volume's mount point."""
        named = re.compile(rf"{re.escape(MOUNT_PREFIX)}{re.escape(volume_id)}(?![A-Za-z0-9._-])".encode())
        try:
            entries = sorted(self._manifests.iterdir())
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.is_symlink():
                text = os.fsencode(entry.readlink())
            elif entry.is_file():
                with entry.open("rb") as file:
                    text = file.read(_MANIFEST_LIMIT)
            else:
                continue
            if named.search(text):
                yield str(entry)


def _was_mounted(mount_point: Path) -> bool:
    """Whether a volume was ever mounted there. Before it mounts, protokube makes the bare directory immutable.

    A directory that an operator made in advance is not; nor does this show where the filesystem has no such flag.
    """
    try:
        directory = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return calls.is_immutable(directory)
    finally:
        os.close(directory)
