"""Finding a volume's disk among the machine's, by what identifies it and never by guessing.

Everything but a loop device's backing file is read from sysfs, which touches no disk.
"""

# Child processes import this, and pathlib takes them longer than a whole probe:
# ruff: noqa: PTH110, PTH116, PTH208

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Identity = tuple[frozenset[str], tuple[int, int] | None, str | None, str | None]
    """The fields of core.model.DiskIdentity: serials, backing, path, asked."""

_SYS_BLOCK = "/sys/block"
_SECTOR = 512
_PAGE = 4096
"""The kernel gives no more of an attribute. A file object for each of some hundred would take thrice the time."""
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO})
"""The attribute isn't there, or the disk is just going away."""


class UncertainError(Exception):
    """Several disks match, or what is given disagrees. The message names them."""


class Missing:
    """The machine has no such disk (yet). `hint` tells what was looked for, and what came near without counting."""

    __slots__ = ("hint",)

    def __init__(self, hint: str) -> None:
        self.hint = hint


class BlockDisk:
    """A whole disk. `name` is the kernel's, `number` (major, minor), `size` in bytes; `sequence` grows with each
    disk that appears, so that it tells one disk from the next under the same name."""

    __slots__ = ("name", "number", "sequence", "size")

    def __init__(self, name: str) -> None:
        major, _, minor = (_attribute(name, "dev") or "0:0").partition(":")
        self.name = name
        self.number = (int(major), int(minor))
        self.size = int(_attribute(name, "size") or 0) * _SECTOR
        self.sequence = int(_attribute(name, "diskseq") or 0)

    @property
    def node(self) -> str:
        """The path of its device node. The kernel writes "/" in a name as "!"."""
        return "/dev/" + self.name.replace("!", "/")

    @property
    def serial(self) -> str:
        """The serial number, empty when the disk has none."""
        return _attribute(self.name, "device/serial") or _attribute(self.name, "serial") or ""

    @property
    def read_only(self) -> bool:
        """Whether the kernel takes no write for it: a write-protected card, a snapshot, `blockdev --setro`."""
        return _attribute(self.name, "ro") == "1"

    @property
    def is_loop(self) -> bool:
        """Whether it is a loop device that a file stands behind."""
        return _attribute(self.name, "loop/backing_file") is not None

    def partitions(self) -> list[tuple[str, tuple[int, int]]]:
        """The names and numbers of its partitions that the kernel knows."""
        try:
            with os.scandir(f"{_SYS_BLOCK}/{self.name}") as entries:
                names = sorted(entry.name for entry in entries if os.path.exists(f"{entry.path}/partition"))
        except FileNotFoundError:
            return []  # it has just gone
        found = []
        for name in names:
            major, _, minor = (_attribute(f"{self.name}/{name}", "dev") or "0:0").partition(":")
            found.append((name, (int(major), int(minor))))
        return found

    def holders(self) -> list[str]:
        """The devices that the kernel built on it: LVM, LUKS, MD."""
        try:
            return sorted(os.listdir(f"{_SYS_BLOCK}/{self.name}/holders"))
        except FileNotFoundError:
            return []


def _attribute(name: str, attribute: str) -> str | None:
    try:
        fd = os.open(f"{_SYS_BLOCK}/{name}/{attribute}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, _PAGE).decode(errors="replace").strip()
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        # A serial that can't be read is not the same as none: the name asked for counts only without one.
        raise UncertainError(f"{_SYS_BLOCK}/{name}/{attribute} can't be read: {error.strerror}") from error


def disks() -> list[BlockDisk]:
    """Every disk of the machine that has a size."""
    found = (BlockDisk(name) for name in sorted(os.listdir(_SYS_BLOCK)) if _attribute(name, "hidden") != "1")
    return [disk for disk in found if disk.size]


def locate(
    identity: Identity, size: int, found: list[BlockDisk], backing_of: Callable[[BlockDisk], tuple[int, int] | None]
) -> BlockDisk | Missing:
    """The disk that is the volume's, Missing when it isn't there (yet); UncertainError when there is any doubt.

    Serials, backing file and path must all agree, as far as they are given. The name asked for counts only for a
    disk without a serial, with exactly the volume's size, on a machine without NVMe disks.
    """
    serials, backing, path, asked = identity
    answers: list[tuple[str, list[BlockDisk]]] = []
    if serials:
        answers.append((f"serial {sorted(serials)}", [disk for disk in found if disk.serial in serials]))
    if backing is not None:
        loops = [disk for disk in found if disk.is_loop and backing_of(disk) == backing]
        answers.append((f"backing file (device {backing[0]}, inode {backing[1]})", loops))
    if path is not None:
        real = os.path.realpath(path)
        answers.append((path, [disk for disk in found if disk.node == real]))
    for what, matches in answers:
        if len(matches) > 1:
            both = " and ".join(disk.node for disk in matches)
            raise UncertainError(f"{both} both match {what}: detach the one that isn't the volume")
    names = {matches[0].name for _, matches in answers if matches}
    if len(names) > 1 or (names and not all(matches for _, matches in answers)):
        said = "; ".join(f"{what}: {matches[0].node if matches else 'no disk'}" for what, matches in answers)
        raise UncertainError(f"what identifies the volume's disk does not agree: {said}")
    if names:
        return next(disk for disk in found if disk.name in names)
    if path is not None and os.path.exists(path):
        raise UncertainError(f"{path} leads to {os.path.realpath(path)}, which is not a whole disk")
    if path is not None:
        return Missing(f"there is no {path}")
    if backing is not None:
        return Missing("no loop device stands on its file")
    sought = f"no disk has the serial {max(serials, key=len)}" if serials else "nothing tells its disk by a serial"
    return Missing(sought) if asked is None else _asked(asked, size, found, sought)


def _asked(asked: str, size: int, found: list[BlockDisk], sought: str) -> BlockDisk | Missing:
    """The disk under the very name asked for, /dev/ or not in front of it.

    What an old kernel makes of another name isn't followed: /dev/sdf becomes xvdf here and xvdj there.
    """
    bare = asked.removeprefix("/dev/")
    disk = next((disk for disk in found if disk.node == f"/dev/{bare}"), None)
    nvme = next((other.node for other in found if other.name.startswith("nvme")), None)
    if disk is None:
        named = f", and there is no /dev/{bare}{_other_name(bare, found)}" if nvme is None else ""
        return Missing(sought + named)
    if disk.serial:
        return Missing(f"{sought}; {disk.node} is another disk, with the serial {disk.serial}")
    if nvme is not None:
        return Missing(f"{sought}, and beside NVMe disks ({nvme}) the name {disk.node} does not count")
    if disk.size != size:
        raise UncertainError(
            f"{disk.node} has no serial and {disk.size} bytes, the volume has {size}: not taken for it"
        )
    return disk


def _other_name(bare: str, found: list[BlockDisk]) -> str:
    """What to do about a disk under the name that Xen's kernel driver may have made of the one asked for."""
    other = "xvd" + bare.removeprefix("sd")
    if not bare.startswith("sd") or not any(disk.name == other and not disk.serial for disk in found):
        return ""
    return (
        f"; /dev/{other} may be it, but without a serial only the very name asked for counts: detach the volume, and "
        "it is attached again under a name that can be recognised"
    )


def swaps() -> set[int]:
    """The device numbers (st_rdev) of the block devices in use as swap."""
    found = set()
    try:
        with open("/proc/swaps", encoding="utf-8", errors="replace") as file:
            paths = [line.split()[0] for line in file][1:]
    except FileNotFoundError:
        return set()
    for path in paths:
        try:
            found.add(os.stat(path).st_rdev)
        except OSError:
            continue  # a name from another namespace; its kernel claim still answers our O_EXCL
    return found - {0}
