"""Ways to an open directory: from the root like any program, or onto a volume without following a link.

All functions return a descriptor that the caller closes. Places in messages are without the root prefix.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from protokube.core.node.model import OnVolume
from protokube.errors import ProviderError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class BlockedError(ProviderError):
    """The way to a path is barred: by a link on a volume, by a file, or because it would leave the root."""


def parts_of(path: str) -> list[str]:
    """The components of an absolute path; `..` is refused."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not path.startswith("/") or not parts or ".." in parts or "\0" in path:
        raise ProviderError(f"{path!r} is not an absolute path without '..'")
    return parts


def open_plain(root: str, parts: Sequence[str], *, make: bool) -> int:
    """Open a directory below the root, following links as any program would, as long as it ends below the root.

    With `make` the missing directories are made (0755); without it FileNotFoundError says that one is missing.
    """
    if make:
        Path(root).mkdir(mode=0o755, parents=True, exist_ok=True)
    folder = os.open(root, _DIRECTORY)
    place = ""
    for part in parts:
        place = f"{place}/{part}"
        folder = _step(folder, part, place, follow=True, make=make)
    if root != "/" and not f"{Path(f'/proc/self/fd/{folder}').readlink()}/".startswith(f"{root}/"):
        os.close(folder)
        raise BlockedError(f"{place} leads out of {root} by a symbolic link: replace the link by a directory")
    return folder


def open_volume(root: str, volume: OnVolume, path: str, *, make: bool) -> int:
    """Open the directory that `path` stands in, on a volume whose device must be mounted at its mount point."""
    mount, parts = parts_of(volume.target), parts_of(path)[:-1]
    if parts[: len(mount)] != mount:
        raise ProviderError(f"{path} is not below the mount point {volume.target}")
    folder = open_plain(root, mount[:-1], make=False)
    folder = _step(folder, mount[-1], volume.target, follow=False, make=False)
    device = os.fstat(folder).st_dev
    if device != os.makedev(*volume.number):
        os.close(folder)
        found, wanted = f"{os.major(device)}:{os.minor(device)}", "{}:{}".format(*volume.number)
        raise ProviderError(
            f"{volume.target} is on device {found}, not the volume's {wanted}: it isn't mounted there"
        )
    return descend(folder, parts[len(mount) :], place=volume.target, make=make)


def descend(folder: int, parts: Sequence[str], *, place: str, make: bool) -> int:
    """Walk down from an open directory (which this closes) without following a link or leaving its filesystem."""
    device = os.fstat(folder).st_dev
    for part in parts:
        place = f"{place}/{part}"
        folder = _step(folder, part, place, follow=False, make=make)
        if os.fstat(folder).st_dev != device:
            os.close(folder)
            raise BlockedError(f"{place} is another filesystem, mounted on the volume: unmount it")
    return folder


def _step(folder: int, part: str, place: str, *, follow: bool, make: bool) -> int:
    """One component further down; closes the descriptor that it starts from."""
    flags = _DIRECTORY | (0 if follow else os.O_NOFOLLOW)
    try:
        try:
            return os.open(part, flags, dir_fd=folder)
        except FileNotFoundError:
            if not make:
                raise
        make_directory(folder, part)
        return os.open(part, flags, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        raise BlockedError(_barred(folder, part, place, follow=follow)) from error
    finally:
        os.close(folder)


def make_directory(folder: int, name: str) -> None:
    """Make one directory (0755), on disk when this returns; one that is there already is fine."""
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
    except FileExistsError:
        return
    os.fsync(folder)


def _barred(folder: int, part: str, place: str, *, follow: bool) -> str:
    try:
        target = os.readlink(part, dir_fd=folder)
    except OSError:
        return f"{place} is not a directory: move it away"
    if follow:
        return f"{place} is a symbolic link to {target}, where no directory is: make one there, or remove the link"
    return f"{place} is a symbolic link (to {target}), which is not followed here: remove it"
