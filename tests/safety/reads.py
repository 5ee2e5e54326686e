"""Disks that can't be read everywhere. What can't be read isn't blank."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from protokube.core.disks.model import Blank
from protokube.host.disk import intent
from tests.lab.disks import FaultDisk, node
from tests.safety.claims import Job, Result
from tests.safety.images import GIB, KIB, MIB, blank, look, opaque, record, write

_MOST = 60
_SIZES = (8 * MIB, 64 * MIB, 320 * MIB, GIB, 20 * GIB)


def jobs(most: int = _MOST) -> list[Job]:
    """All of them; on each disk at most so many reads fail, one at a time."""
    found = [
        Job("read-error", f"{size} bytes", _Reads(size, resumed, most).run)
        for size in _SIZES
        for resumed in (False, True)
    ]
    found += [Job("read-error", f"{size} bytes, ends early", _Short(size).run) for size in _SIZES]
    return [*found, Job("read-error", "bad disk", bad_disk, ("blank",))]


class _Reads:
    """Each single read of the proof fails; in this process, since no device at hand fails read by read."""

    def __init__(self, size: int, resumed: bool, most: int) -> None:
        self._size = size
        self._resumed = resumed
        self._most = most

    def run(self, scratch: Path) -> Iterator[Result]:
        """One look for each of some of the places where a look reads."""
        image = blank(scratch / "disk.img", self._size)
        if self._resumed:
            write(image, intent.offset(self._size), record(self._size))
        with opaque(image) as device:
            with failing(None) as places:
                assert look(device, self._size)["state"] == "blank"
            for place in _some(sorted(set(places)), self._most):
                with failing(place):
                    state = look(device, self._size)["state"]
                resumed = ", an interrupted format" if self._resumed else ""
                case = f"{self._size} bytes{resumed}, read at byte {place}"
                yield Result("read-error", case, "it passes for blank" if state == "blank" else "")


def _some(places: list[int], most: int) -> list[int]:
    """At most so many of the places, the first and the last among them."""
    step = (len(places) - 1) / (most - 1)
    return places if step <= 1 else sorted({places[round(number * step)] for number in range(most)})


@contextmanager
def failing(place: int | None) -> Iterator[list[int]]:
    """Let every read that begins at a byte fail; yields where was read."""
    places: list[int] = []
    read = os.preadv

    def preadv(fd: int, buffers: list[memoryview], offset: int, *flags: int) -> int:
        places.append(offset)
        if offset == place:
            raise OSError(5, "Input/output error")
        return read(fd, buffers, offset, *flags)

    with patch.object(os, "preadv", preadv):
        yield places


class _Short:
    """The file behind the device was cut: the kernel answers every read beyond with EIO."""

    def __init__(self, size: int) -> None:
        self._size = size

    def run(self, scratch: Path) -> Iterator[Result]:
        """Cut in front of each of some places."""
        for part in (0, 4 * KIB, MIB, self._size // 4, self._size // 2, self._size - MIB, self._size - 4 * KIB):
            image = blank(scratch / "disk.img", self._size)
            with opaque(image) as device:
                os.truncate(image, part)
                state = look(device, self._size)["state"]
            case = f"{self._size} bytes, {part} of them readable"
            yield Result("read-error", case, "it passes for blank" if state == "blank" else "")


def bad_disk(scratch: Path) -> Iterator[Result]:
    """A disk with data that fails all reads, then answers again: by the processes that do it on a node."""
    with FaultDisk(scratch / "fault", 64 * MIB) as disk, node(scratch / "root") as here:
        volume = disk.volume()
        for mode in ("badread", "dead"):
            disk.mode(mode)
            found = here.look(volume)
            yield Result(
                "read-error", f"{mode}, looked at", "it passes for blank" if isinstance(found, Blank) else ""
            )
            here.format(volume, disk)
            here.finish()
            yield Result(
                "read-error", f"{mode}, ordered to format", "" if here.failure(volume) else "it was formatted"
            )
            here.restart()
            disk.mode("healthy")
            _forget(scratch)
        trouble = "" if isinstance(here.look(volume), Blank) else f"refused: {here.look(volume)}"
        yield Result("blank", "a disk that answers again", trouble)


def _forget(scratch: Path) -> None:
    """Forget the failure, so that the next order isn't put off."""
    for notes in (scratch / "root/run/protokube/disks").glob("*.json"):
        notes.unlink()
