"""A blank disk with something on it somewhere: how much of it is seen, by its length."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from tests.safety.claims import Job, Result
from tests.safety.corpus import label, seed
from tests.safety.foreign import formatted
from tests.safety.images import GIB, KIB, MIB, blank, wipe, write

_SIZES = (320 * MIB, GIB, 20 * GIB, 200 * GIB)
_LENGTHS = {"stray-byte": 1, "stray-4k": 4 * KIB, "stray-64k": 64 * KIB, "stray-1m": MIB, "stray-16m": 16 * MIB}
_ALSO = {"stray-1m": ("stray-1m-sparse",)}
_TRIES = 30


def jobs() -> list[Job]:
    """All of them, by size and length."""
    return [
        Job(claim, f"{label(size)}", _Stray(claim, size, length).run, _ALSO.get(claim, ()))
        for size in _SIZES
        for claim, length in _LENGTHS.items()
    ]


class _Stray:
    def __init__(self, claim: str, size: int, length: int) -> None:
        self._claim = claim
        self._size = size
        self._length = length

    def run(self, scratch: Path) -> Iterator[Result]:
        """One try after the other, at places that are the same in every run."""
        image = blank(scratch / "disk.img", self._size)
        chance = random.Random(seed(self._claim, self._size))
        for _ in range(_TRIES):
            place = chance.randrange(self._size - self._length)
            write(image, place, b"\xa5" * self._length)
            case = f"{label(self._size)}, at byte {place}"
            yield formatted(self._claim, case, image)
            if self._claim == "stray-1m":
                yield formatted("stray-1m-sparse", case, image, tells_holes=True)
            start = place - place % (4 * KIB)
            wipe(image, start, place + self._length - start + 4 * KIB)
