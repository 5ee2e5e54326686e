"""How much of a disk is read before it counts as blank: every byte where that is cheap or asked for, else a sample.

The sample is the ends, the places of known formats, and one page of every thousandth of the disk. Which page is drawn
by the volume's name, so that a proof that failed is not repeated until its luck turns.
"""

from __future__ import annotations

import _random  # the generator alone: `random` loads ten modules

from protokube.host.disk.holes import data_ranges
from protokube.host.disk.places import MIB, PAGE, Place, places
from protokube.host.disk.rawdisk import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from protokube.host.disk.rawdisk import RawDisk

RANDOM_PAGES = 1024
_CHEAP = 256 * MIB
"""What a sparse disk may hold and is still read whole, within a probe's time."""


class Coverage:
    """What is read of a disk from byte `start` on: `places` in order, and a sentence that says how much that is."""

    __slots__ = ("_ranges", "_sample", "described")

    def __init__(self, raw: RawDisk, seed: str, *, full: bool, start: int = 0) -> None:
        ranges = [(0, raw.size)] if full else data_ranges(raw)
        if ranges is not None and not full and sum(end - begin for begin, end in ranges) > _CHEAP:
            ranges = None
        if ranges is not None:
            self.described = "every byte" if full else "every byte that its file holds"
            self._ranges = [(max(begin, start), end) for begin, end in ranges if end > start]
            # A hole needs no reading; the ends are read to see that the disk answers.
            self._sample = [one for one in places(raw.size) if one.length == MIB and _at_an_end(one, raw.size)]
        else:
            self.described = f"both ends, known places and {RANDOM_PAGES} pages drawn by the seed {seed!r}"
            self._ranges = []
            self._sample = places(raw.size)
        self._sample = _within(self._sample, start, raw.size)
        if ranges is None:
            self._sample += _random_pages(seed, start, raw.size)

    def places(self) -> Iterator[Place]:
        """Each range to read, at most 1 MiB."""
        yield from self._sample
        for begin, end in self._ranges:
            for offset in range(begin, end, CHUNK):
                yield Place(offset, min(CHUNK, end - offset), "data")


def _at_an_end(place: Place, size: int) -> bool:
    return place.offset == 0 or place.offset + place.length == size


def _within(found: list[Place], start: int, size: int) -> list[Place]:
    """The places from `start` on, and the first 2 MiB from there in full."""
    if start == 0:
        return found
    cut = [Place(max(one.offset, start), one.offset + one.length - max(one.offset, start), one.what) for one in found]
    ahead = [Place(start + step, min(MIB, size - start - step), "first 2 MiB behind its end") for step in (0, MIB)]
    return [place for place in ahead + cut if place.length > 0]


def _random_pages(seed: str, start: int, size: int) -> list[Place]:
    """One page in each of as many equal parts of the disk. No stretch as long as two parts is missed."""
    chance = _random.Random(int.from_bytes(seed.encode(), "big"))
    part = max(PAGE, (size - start) // RANDOM_PAGES)
    found = []
    for begin in range(start, size, part):
        offset = begin + int(chance.random() * max(1, part - PAGE + 1))
        offset -= offset % PAGE
        if offset + PAGE <= size and offset >= start:
            found.append(Place(offset, PAGE, f"page drawn by the seed {seed!r}"))
    return found
