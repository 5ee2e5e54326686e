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

_MOST_LINKS = 40
"""As the kernel follows (path_resolution(7))."""
_NOWHERE = Path("/dev/null/nowhere")
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
    """Open a directory below the root. Links are followed as a program would whose root it is: none leads out of it.

    With `make` the missing directories are made (0755); without it FileNotFoundError says that one is missing.
    """
    if make:
        Path(root).mkdir(mode=0o755, parents=True, exist_ok=True)
    if root != "/":
        return _open_inside(root, parts, make=make)
    folder = os.open(root, _DIRECTORY)
    place = ""
    for part in parts:
        place = f"{place}/{part}"
        folder = _step(folder, part, place, follow=True, make=make)
    return folder


def _open_inside(root: str, parts: Sequence[str], *, make: bool) -> int:
    """What openat2(2) calls RESOLVE_IN_ROOT, which Python can't ask for; and missing directories are made."""
    opened = [os.open(root, _DIRECTORY)]  # from the root to here, so that `..` ends at the root
    names: list[str] = []  # of `opened`, for messages
    todo = [(part, "") for part in reversed(parts)]
    links = 0
    try:
        while todo:
            part, link = todo.pop()
            if part == "..":
                if len(opened) > 1:
                    os.close(opened.pop())
                    names.pop()
                continue
            place = "/".join(["", *names, part])
            target = _link_target(opened[-1], part)
            if target is None:
                opened.append(_one_down(opened[-1], part, link or place, behind=bool(link), make=make))
                names.append(part)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise BlockedError(f"{place} is a symbolic link that leads in a circle: remove it")
            if target.startswith("/"):
                while len(opened) > 1:
                    os.close(opened.pop())
                names.clear()
            said = f"{place} is a symbolic link to {target}"
            todo += [(one, said) for one in reversed(target.split("/")) if one not in ("", ".")]
        return opened.pop()
    finally:
        for folder in opened:
            os.close(folder)


def _link_target(folder: int, name: str) -> str | None:
    """Where a link leads; None when the name is no link, or absent."""
    try:
        return os.readlink(name, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None


def _one_down(folder: int, part: str, place: str, *, behind: bool, make: bool) -> int:
    """Open a directory in an open one. `behind` a link, which `place` then tells, nothing is made."""
    try:
        try:
            return os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        except FileNotFoundError:
            if not make:
                raise
            if behind:
                raise BlockedError(f"{place}, where no directory is: make one there, or remove the link") from None
        make_directory(folder, part)
        return os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        if behind:
            raise BlockedError(f"{place}, where no directory is: make one there, or remove the link") from error
        raise BlockedError(f"{place} is not a directory: move it away") from error


def real_path(root: str, path: str) -> Path:
    """The path by which this machine reaches a path below a root, every link resolved as inside of that root.

    Where nothing stands, the path is one at which nothing ever does.
    """
    if root == "/":
        return Path(path)
    todo = path
    for _ in range(_MOST_LINKS):
        parts = [part for part in todo.split("/") if part not in ("", ".")]
        if not parts:
            return Path(root)
        try:
            folder = open_plain(root, parts[:-1], make=False)
        except (OSError, BlockedError):
            return _NOWHERE
        try:
            here = Path(f"/proc/self/fd/{folder}").readlink()
            target = _link_target(folder, parts[-1]) if parts[-1] != ".." else ".."
        finally:
            os.close(folder)
        if target is None:
            return here / parts[-1]
        inside = str(here)[len(root) :]
        todo = target if target.startswith("/") else f"{inside}/{target}"
    return _NOWHERE


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
