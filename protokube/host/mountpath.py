"""The way to the mount points: where it really leads, and what bars it."""

from __future__ import annotations

import os
from pathlib import Path

from protokube.core.volumes.model import MOUNT_DIR, MOUNT_PREFIX
from protokube.host.walk import BlockedError, open_plain, parts_of

_NAME = MOUNT_PREFIX.removeprefix(f"{MOUNT_DIR}/")


def way(root: str) -> tuple[str, dict[str, str]]:
    """The real path of the directory above all mount points, without the root prefix, and what bars the way to a
    mount point, by its path or by that of the directory. What is missing will be made, and bars nothing.

    Links are followed as long as they end below the root: on ostree systems /mnt is one. Raises OSError.
    """
    # The mount itself follows links as this machine does, not as one would whose root this is.
    above = f"{root.rstrip('/')}{MOUNT_DIR}"
    if not f"{os.path.realpath(above)}/".startswith(f"{root.rstrip('/')}/"):
        evidence = f"{MOUNT_DIR} leads out of {root} by a symbolic link: replace the link by a directory"
        return MOUNT_DIR, {MOUNT_DIR: evidence}
    try:
        folder = open_plain(root, parts_of(MOUNT_DIR), make=False)
    except FileNotFoundError:
        link = Path(above)
        if not link.is_symlink():
            return MOUNT_DIR, {}
        evidence = f"{MOUNT_DIR} is a symbolic link to {link.readlink()}, which is absent: make that directory"
        return MOUNT_DIR, {MOUNT_DIR: evidence}
    except BlockedError as blocked:
        return MOUNT_DIR, {MOUNT_DIR: str(blocked)}
    try:
        real = str(Path(f"/proc/self/fd/{folder}").readlink())
        with os.scandir(folder) as entries:
            barred = [
                f"{MOUNT_DIR}/{entry.name}"
                for entry in entries
                if entry.name.startswith(_NAME) and not entry.is_dir(follow_symlinks=False)
            ]
    finally:
        os.close(folder)
    evidence = "is no directory (a mount point can't be a symbolic link either): move it away"
    return real.removeprefix(root.rstrip("/")), {path: f"{path} {evidence}" for path in barred}
