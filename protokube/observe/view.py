"""One snapshot, and what belongs to it."""

from __future__ import annotations

from msgspec import Struct

from protokube.core.assess import Assessment
from protokube.core.history import History
from protokube.core.observed import Observed


class View(Struct, frozen=True):
    """One snapshot of the world, the history that belongs to it, and its judgement."""

    observed: Observed
    history: History
    judged: Assessment
