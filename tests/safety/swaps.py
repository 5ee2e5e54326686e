"""A disk that changes between the look that planned an action and the action itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from protokube.core.volumes.model import CloudVolume
from protokube.errors import ProviderError
from tests.lab.disks import UUID, LoopDisk, Node, digest, node, run
from tests.safety.claims import Job, Result
from tests.safety.images import MIB, blank, write

_SIZE = 320 * MIB
_OTHER = "11111111-2222-4333-8444-555555555555"


@dataclass
class _Scene:
    """A disk in the hands of others. `undo` ends what they hold."""

    disk: LoopDisk
    scratch: Path
    undo: ExitStack

    @property
    def image(self) -> Path:
        return self.disk.image


def _bytes(offset: int, scene: _Scene) -> None:
    scene.disk.write(offset, b"theirs")


def _xfs(scene: _Scene) -> None:
    run("mkfs.xfs", "-q", "-f", scene.disk.device)


def _other_ext4(scene: _Scene) -> None:
    scene.disk.make_ext4(_OTHER)


def _partitioned(scene: _Scene) -> None:
    run("sgdisk", "-o", "-n", "1:0:+64M", scene.disk.device)
    run("partx", "-a", scene.disk.device)
    scene.undo.callback(run, "partx", "-d", scene.disk.device)


def _replaced(scene: _Scene) -> None:
    """Another disk under the same name."""
    name = scene.disk.device
    scene.disk.detach()
    other = blank(scene.scratch / "other.img", _SIZE)
    write(other, 2 * MIB, b"theirs")
    run("losetup", name, other)
    scene.undo.callback(run, "losetup", "--detach", name)


def _replaced_by_blank(scene: _Scene) -> None:
    name = scene.disk.device
    scene.disk.detach()
    run("losetup", name, blank(scene.scratch / "other.img", _SIZE))
    scene.undo.callback(run, "losetup", "--detach", name)


def _resized(size: int, scene: _Scene) -> None:
    os.truncate(scene.image, size)
    run("losetup", "--set-capacity", scene.disk.device)


def _mounted(scene: _Scene) -> None:
    scene.disk.make_ext4(_OTHER)
    at = scene.undo.enter_context(scene.disk.mounted(scene.scratch / "m"))
    (at / "theirs").write_text("x")
    run("sync", "-f", at)


def _claimed(scene: _Scene) -> None:
    fd = os.open(scene.disk.device, os.O_RDONLY | os.O_EXCL)
    scene.undo.callback(os.close, fd)


def _gone(scene: _Scene) -> None:
    scene.disk.detach()


CHANGES: dict[str, Callable[[_Scene], None]] = {
    "bytes at its start": partial(_bytes, 100),
    "bytes in a spare superblock's place": partial(_bytes, 128 * MIB),
    "bytes at its end": partial(_bytes, _SIZE - 100),
    "an XFS": _xfs,
    "another ext4": _other_ext4,
    "partitions": _partitioned,
    "another disk under its name": _replaced,
    "another, blank disk under its name": _replaced_by_blank,
    "grown": partial(_resized, _SIZE + 64 * MIB),
    "shrunk": partial(_resized, _SIZE - 64 * MIB),
    "mounted by others": _mounted,
    "held by another program": _claimed,
    "detached": _gone,
}
_HARMLESS_TO_A_FILESYSTEM = {"bytes at its start", "bytes in a spare superblock's place", "bytes at its end"}


def jobs() -> list[Job]:
    """Every action on every change."""
    return [
        Job("changed", f"{action}: {change}", _Swap(action, change).run)
        for action in ("format", "check", "grow", "mount")
        for change in CHANGES
        if action == "format" or change not in _HARMLESS_TO_A_FILESYSTEM
    ]


class _Swap:
    def __init__(self, action: str, change: str) -> None:
        self._action = action
        self._change = change

    def run(self, scratch: Path) -> Iterator[Result]:
        """Look, change, act; what is on any of the disks is the same before and after the act."""
        image = blank(scratch / "disk.img", _SIZE)
        with node(scratch / "root") as here, LoopDisk(image, _SIZE) as disk, ExitStack() as undo:
            if self._action != "format":
                disk.make_ext4()
            volume = disk.volume()
            here.look(volume)
            act = self._order(here, volume, disk)
            CHANGES[self._change](_Scene(disk, scratch, undo))
            before = self._state(scratch)
            with suppress(ProviderError):
                act()
            here.finish()
            trouble = "" if self._state(scratch) == before else "a byte has changed"
            if any(f" {scratch}/root/" in line for line in Path("/proc/self/mountinfo").read_text().splitlines()):
                trouble = "it was mounted"
        yield Result("changed", f"{self._action}: {self._change}", trouble)

    def _order(self, here: Node, volume: CloudVolume, disk: LoopDisk) -> Callable[[], object]:
        """The action as it was planned: with the device, number and size of the look."""
        ground = LoopDisk(disk.image, disk.size)
        ground.device = disk.device
        if self._action == "format":
            return partial(here.format, volume, ground)
        return partial(getattr(here, self._action), volume, ground, UUID)

    def _state(self, scratch: Path) -> list[str]:
        run("sync", "-f", scratch)
        for device in run("losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE").splitlines():
            name, _, file = device.partition(" ")
            if str(scratch) in file:
                run("blockdev", "--flushbufs", name)
        return [digest(image) for image in sorted(scratch.glob("*.img"))]
