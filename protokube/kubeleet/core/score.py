"""Which worker gets a pod: the one with the fewest pods, as long as its machine isn't under pressure."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from msgspec import Struct

from protokube.core.model import Fault
from protokube.kubeleet.core.foreign import read_foreign

CROWDED = 10.0
"""Percent of the time in which nothing went on for want of memory: such a worker gets nothing while another can."""


class Load(Struct, frozen=True):
    """What a worker says of itself. Pressures are avg10 of `some`, in percent; 0 where the kernel has no PSI.

    `memory_full`: avg10 of `full`. `pods`: how many it had. `at`: seconds since the epoch, by its own clock.
    """

    psi: bool = False
    cpu: float = 0.0
    memory: float = 0.0
    io: float = 0.0
    memory_full: float = 0.0
    pods: int = 0
    at: float = 0.0


def read_pressure(text: str) -> dict[str, float]:
    """avg10 by kind, `some` and `full`, of a file of /proc/pressure. Lines that aren't understood count as absent.

    `full` is absent for the CPU before Linux 5.13.
    """
    found = {}
    for kind, *fields in filter(None, map(str.split, text.splitlines())):
        values = dict(field.partition("=")[::2] for field in fields)
        try:
            found[kind] = float(values["avg10"])
        except (KeyError, ValueError):
            continue
    return found


def read_load(raw: bytes | None) -> Load:
    """A worker's load; what can't be read counts as none."""
    load = read_foreign(raw or b"{}", Load, "load")
    return Load() if isinstance(load, Fault) else load


class Candidate(Struct, frozen=True):
    """A worker that pods may be placed on. `pods`: what it has and will have, counted now."""

    pods: int
    load: Load = Load()

    @property
    def score(self) -> float:
        """Lowest wins."""
        load = self.load
        return self.pods + 0.1 * load.cpu + 0.1 * load.io + 0.3 * load.memory


class Choice:
    """Places pod after pod; each one counts for the next."""

    def __init__(self, candidates: Mapping[str, Candidate]) -> None:
        fit = {w: one for w, one in candidates.items() if one.load.memory_full < CROWDED}
        self._scores = {w: one.score for w, one in (fit or candidates).items()}

    def __call__(self, raw: bytes) -> str | None:
        """The worker for a pod, None when there is none. A tie falls by the pod."""
        if not self._scores:
            return None
        best = min(self._scores.values())
        seed = zlib.crc32(raw)
        chosen = min(
            (w for w, score in self._scores.items() if score == best), key=lambda w: (zlib.crc32(w.encode(), seed), w)
        )
        self._scores[chosen] += 1
        return chosen
