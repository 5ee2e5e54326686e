"""The models of the exhaustive rounds beside real things: random sequences of actions on both, seen the same.

tests/rounds/model_*.py say which. A case is a sequence; its number is the seed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.rounds import model_cloud, model_disks, model_images, model_names
from tests.safety.claims import Job, Result

_TOGETHER = 10
_SEQUENCES: dict[str, tuple[Callable[[int, Path], str], int]] = {
    "disks": (model_disks.differs, 100),
    "bind": (model_names.bind_differs, 50),
    "route53": (model_names.route53_differs, 50),
    "ec2": (model_cloud.differs, 50),
    "images": (model_images.differs, 50),
}
"""Each model's name, with how many sequences are tried."""


def jobs() -> list[Job]:
    """Jobs of ten sequences each."""
    return [
        Job("model", f"{name} {first}", _Sequences(name, differs, range(first, first + _TOGETHER)).run)
        for name, (differs, count) in _SEQUENCES.items()
        for first in range(0, count, _TOGETHER)
    ]


class _Sequences:
    def __init__(self, name: str, differs: Callable[[int, Path], str], seeds: range) -> None:
        self._name, self._differs, self._seeds = name, differs, seeds

    def run(self, scratch: Path) -> Iterator[Result]:
        """One result for each sequence."""
        for seed in self._seeds:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                yield Result("model", f"{self._name} {seed}", self._differs(seed, Path(folder)))
