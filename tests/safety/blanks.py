"""What must not be refused: blank disks of every size, and our own formats, killed anywhere."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from protokube.core.disks.model import Blank, Ext4
from tests.lab.cut_tools import traced_tools, writes_in
from tests.lab.disks import LoopDisk, Node, node
from tests.safety.claims import Job, Result
from tests.safety.images import GIB, KIB, MIB, blank, look, loop, opaque, write

SIZES = (
    *(n * MIB for n in (2, 3, 5, 8, 16, 17, 33, 64, 100, 129, 200, 257, 320, 385, 512, 1025, 2047)),
    8 * MIB + 512 * KIB,
    2048 * MIB + 2304 * KIB,
    320 * MIB + 512,
    GIB - 512,
    GIB + 4 * KIB,
    20 * GIB,
    500 * GIB,
    1 << 40,
    15 << 40,
)
KILLED_SIZES = tuple(n * 256 * KIB for n in (34, 256, 516, 1028, 1280, 1540, 4096, 8201))
"""Some of them are such that mkfs writes where a record of a format might stand."""

_KILLS = 6


def jobs() -> list[Job]:
    """All of them."""
    found = [Job("blank", f"{size} bytes", _Blank(size).run) for size in SIZES]
    found += [Job("blank", f"{size} bytes, formatted", _Blank(size).to_the_end) for size in KILLED_SIZES]
    found += [Job("resume", f"{size} bytes", _Killed(size).run) for size in KILLED_SIZES]
    return found


def accepted(claim: str, case: str, device: str, size: int) -> Result:
    """A case whose disk must pass for blank."""
    answer = look(device, size)
    return Result(claim, case, "" if answer["state"] == "blank" else f"{answer['state']}: {answer.get('text')}")


class _Blank:
    def __init__(self, size: int) -> None:
        self._size = size

    def run(self, scratch: Path) -> Iterator[Result]:
        """A disk that was never written, one that was zeroed, and one with large sectors."""
        size = self._size
        image = blank(scratch / "disk.img", size)
        case = f"{size} bytes"
        with opaque(image) as device:
            yield accepted("blank", case, device, size)
        with loop(image) as device:
            yield accepted("blank", f"{case}, sparse file", device, size)
        if size % (4 * KIB) == 0:
            with loop(image, "--sector-size", "4096") as device:
                yield accepted("blank", f"{case}, sectors of 4 KiB", device, size)
        for offset in range(0, min(size, 32 * MIB), MIB):
            write(image, offset, bytes(min(MIB, size - offset)))
        with loop(image) as device:
            yield accepted("blank", f"{case}, zeroed by its last owner", device, size)

    def to_the_end(self, scratch: Path) -> Iterator[Result]:
        """Looked at, formatted and looked at again by the processes that do so on a node."""
        image = blank(scratch / "disk.img", self._size)
        with node(scratch / "root") as here, LoopDisk(image, self._size) as disk:
            trouble = formats(here, disk)
        yield Result("blank", f"{self._size} bytes, formatted", trouble)


def formats(here: Node, disk: LoopDisk) -> str:
    """Format a disk that ought to be blank or half made; what stood in the way."""
    volume = disk.volume()
    found = here.look(volume)
    if not isinstance(found, Ext4):
        if not isinstance(found, Blank):
            return f"before the format: {found}"
        here.format(volume, disk)
        here.finish()
        if failure := here.failure(volume):
            return failure
        found = here.look(volume)
    sound = subprocess.run(["e2fsck", "-f", "-n", disk.device], capture_output=True, text=True, timeout=120)
    if not isinstance(found, Ext4) or found.used or sound.returncode:
        return f"after the format: {found}; e2fsck: {sound.stdout}"
    return ""


class _Killed:
    """A format killed at some of its writes to the disk, by strace."""

    def __init__(self, size: int) -> None:
        self._size = size

    def run(self, scratch: Path) -> Iterator[Result]:
        """All kill points of one size."""
        writes = self._format(scratch / "counted")
        points = sorted({1, 2, 3, writes, *(1 + writes * n // _KILLS for n in range(_KILLS))})
        for point in points:
            reached = self._format(scratch / f"at-{point}", point)
            assert reached == point, f"the format was to be killed at its write {point}, and has made {reached}"
            with node(scratch / f"at-{point}/again") as here, self._disk(scratch / f"at-{point}") as disk:
                trouble = formats(here, disk)
            case = f"{self._size} bytes, killed at write {point} of {writes}"
            yield Result("resume", case, trouble)
            (scratch / f"at-{point}/disk.img").unlink()

    def _disk(self, folder: Path) -> LoopDisk:
        return LoopDisk(folder / "disk.img", self._size)

    def _format(self, folder: Path, kill: int | None = None) -> int:
        """Run a format under strace; the number of writes to the disk that it made, or began."""
        folder.mkdir()
        blank(folder / "disk.img", self._size)
        log = folder / "strace.log"
        with node(folder / "root") as here, self._disk(folder) as disk, traced_tools(disk.device, log, kill):
            here.look(disk.volume())
            here.format(disk.volume(), disk)
            here.finish()
            disk.detach(awaited=True)
        assert writes_in(log), "the format was not traced"
        return writes_in(log)
