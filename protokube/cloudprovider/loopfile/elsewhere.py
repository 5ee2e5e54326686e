"""An identity elsewhere: another volume has, or had, the filesystem of the very member that an empty image is for.

Such a member ran, or was about to. An empty image in its name would start an empty etcd cluster beside its data. A
new id in the inventory, or a tag that moved to another volume, are enough for that.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from protokube.cloudprovider.static import state
from protokube.cloudprovider.static.inventory import InventoryVolume
from protokube.core.disks.identity import parse_identity
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.model import KIB, Rejected
from protokube.core.volumes.model import FILESYSTEM_TAG, MOUNT_PREFIX, EtcdMember
from protokube.core.volumes.tags import cluster_names, etcd_member
from protokube.core.volumes.uuid import filesystem_uuid
from protokube.errors import explain
from protokube.kernel import mountinfo

_RECORD = re.compile(r"(?P<image>/.*) has been in use: no other image is made for (?P<id>\S+)\n")
"""What Evidence.record writes; it outlives the volume's entry in the inventory."""

_IDENTITY_LIMIT = 256 * KIB
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

# ext4's superblock stands at byte 1024: its magic at 56, its UUID at 104 (kernel.org, "ext4 Data Structures").
_SUPERBLOCK, _MAGIC_AT, _UUID_AT = 1024, 56, 104
_MAGIC = b"\x53\xef"


class Elsewhere:
    """Looks below the real path `root`, at the inventory's images, and at the records beside the inventory."""

    def __init__(self, root: str, volumes: Iterable[InventoryVolume]) -> None:
        self._root = root
        self._images = {volume.id: volume.image for volume in volumes if volume.image}
        self._states = {volume.id: volume.state for volume in volumes}
        self._folders = {Path(volume.record).parent for volume in volumes if volume.record}

    def of(self, volume: InventoryVolume) -> tuple[str, ...]:
        """The paths that show the volume's member on another one. Raises ProviderError when that can't be read."""
        member = etcd_member(volume.tags)
        # Elsewhere a blank volume with a new id replaces a lost one: the other members tell whether it may join.
        if not isinstance(member, EtcdMember) or len(member.members) > 1:
            return ()
        with explain(f"look for the member of {volume.id} on other volumes"):
            return tuple(
                path
                for cluster_id in cluster_names(volume.tags)
                for path in (
                    *self._filesystems(volume.id, cluster_id, member),
                    *self._identities(volume.id, cluster_id, member),
                )
            )

    def _filesystems(self, own: str, cluster_id: str, member: EtcdMember) -> Iterator[str]:
        """Images and state files of other volumes with the UUID that only this member's filesystem has there."""
        images, states = self._known()
        for name in sorted((images.keys() | states.keys()) - {own}):
            made = filesystem_uuid(cluster_id, member, name)
            if name in images and _ext4_uuid(images[name]) == made:
                yield images[name]
            elif name in states and state.load(states[name]).tags.get(FILESYSTEM_TAG) == made:
                yield states[name]

    def _known(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Images and state files by the volume's id: the inventory's, and those that the records tell of."""
        images, states = dict(self._images), dict(self._states)
        for record in sorted(path for folder in self._folders for path in folder.glob("*.used")):
            if found := _RECORD.fullmatch(record.read_text(errors="surrogateescape")):
                images.setdefault(found["id"], found["image"])
                states.setdefault(found["id"], f"{found['image']}.state")
        return images, states

    def _identities(self, own: str, cluster_id: str, member: EtcdMember) -> Iterator[str]:
        """The identity files of other mounted volumes that name this member: of kops's volumes, and of devices."""
        prefix = self._root.rstrip("/") + MOUNT_PREFIX
        for target in sorted({line.target for line in mountinfo.read() if line.target.startswith(prefix)}):
            if target == prefix + own or "/" in target.removeprefix(prefix):
                continue
            identity = parse_identity(_plain_text(target, IDENTITY_PATH))
            if isinstance(identity, Rejected):
                continue
            named = (identity.cluster_id, identity.etcd_cluster, identity.member)
            if named == (cluster_id, member.cluster, member.me):
                yield f"{target}/{IDENTITY_PATH}"


def _ext4_uuid(image: str) -> str | None:
    """The UUID of the ext4 in an image; None without one."""
    try:
        opened = os.open(image, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        head = os.pread(opened, _UUID_AT + 16, _SUPERBLOCK)
    finally:
        os.close(opened)
    if head[_MAGIC_AT : _MAGIC_AT + 2] != _MAGIC:
        return None
    text = head[_UUID_AT : _UUID_AT + 16].hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _plain_text(target: str, path: str) -> str:
    """A file below a mount point, read without following links; empty when there is none."""
    *folders, name = path.split("/")
    opened = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened)
            os.close(opened)
            opened = below
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=opened)
        with open(file, "rb") as content:
            return content.read(_IDENTITY_LIMIT).decode(errors="replace")
    except OSError as error:
        if error.errno in _NO_FILE:
            return ""
        raise
    finally:
        os.close(opened)
