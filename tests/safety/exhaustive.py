"""Every state of a node in memory: each read failing, each action failing or cut off, at every point.

tests/rounds/explore.py says what every state is held against. A case is a state.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.rounds.scenes import Beginning, alone, beside, racing
from tests.safety.claims import Job, Result

MOST = 200
"""States that are left from in each scene. The scenes have some thousands each, which take hours: `jobs(None)`."""


def jobs(most: int | None = MOST) -> list[Job]:
    """One job for each scene."""
    return [Job("rounds", one.name, _Exploring(one, most).run) for one in (*alone(), *beside(), *racing())]


class _Exploring:
    def __init__(self, beginning: Beginning, most: int | None) -> None:
        self._beginning, self._most = beginning, most

    def run(self, _: Path) -> Iterator[Result]:
        """One result for each state."""
        exploration = self._beginning.explore()
        for way, trouble in exploration.run(self._most):
            yield Result("rounds", f"{self._beginning.name}: {way}", trouble)
