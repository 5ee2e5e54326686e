"""Mounting a volume's filesystem at its mount point.

Links on the way to it are followed as far as they end below the root (on ostree systems /mnt is one); the mount point
itself may be none.
"""

# Child processes import this, and pathlib takes them longer than a whole probe:
# ruff: noqa: PTH103, PTH115

from __future__ import annotations

import os

from protokube.kernel import calls, mountinfo

_FLAGS = calls.MS_NOATIME | calls.MS_NODEV | calls.MS_NOSUID
OPTIONS = "errors=remount-ro,noinit_itable"
"""noinit_itable: a filesystem at rest writes nothing, though the kernel would like to zero unused inode tables."""
_MODE = 0o750
_MODE_ABOVE = 0o755
_FOLLOW = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DIRECTORY = _FOLLOW | os.O_NOFOLLOW


def mount(node: str, number: tuple[int, int], root: str, target: str) -> None:
    """Mount the ext4 filesystem on a device at `root` + `target`; missing directories are made.

    The bare mount point is made immutable where its filesystem can, so that nothing is ever written beneath a
    missing mount. Raises OSError.
    """
    parent, name = _parent(root, target)
    try:
        bare = _open(parent, name, _MODE)
        try:
            if os.fstat(bare).st_dev != os.fstat(parent).st_dev:
                raise OSError(16, "another filesystem is mounted there", target)
            calls.set_immutable(bare)
            calls.mount(node, f"/proc/self/fd/{bare}", "ext4", _FLAGS, OPTIONS)
        finally:
            os.close(bare)
        _verify(parent, name, number, target)
    finally:
        os.close(parent)


def _parent(root: str, target: str) -> tuple[int, str]:
    """The open directory above the mount point, and the mount point's name in it."""
    *above, name = target.strip("/").split("/")
    if not name or ".." in (*above, name):
        raise OSError(22, "not an absolute path without '..'", target)
    os.makedirs(root, exist_ok=True)
    fd = os.open(root, _FOLLOW)
    for part in above:
        try:
            below = _open(fd, part, _MODE_ABOVE, _FOLLOW)
        finally:
            os.close(fd)
        fd = below
    place = os.readlink(f"/proc/self/fd/{fd}")
    if root != "/" and not f"{place}/".startswith(f"{root}/"):
        os.close(fd)
        raise OSError(1, f"a symbolic link on the way leads to {place}, outside of {root}", target)
    return fd, name


def _open(parent: int, name: str, mode: int, flags: int = _DIRECTORY) -> int:
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        return os.open(name, flags, dir_fd=parent)
    fd = os.open(name, _DIRECTORY, dir_fd=parent)
    os.fchmod(fd, mode)  # whatever the umask
    return fd


def _verify(parent: int, name: str, number: tuple[int, int], target: str) -> None:
    fd = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        path = os.readlink(f"/proc/self/fd/{fd}")
        device = os.fstat(fd).st_dev
    finally:
        os.close(fd)
    if device != os.makedev(*number) or not any(
        line.target == path and line.number == number for line in mountinfo.read()
    ):
        raise OSError(19, f"mounted, but device {os.major(device)}:{os.minor(device)} is there", target)
