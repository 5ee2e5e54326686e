"""What a reconcile did and what is left, as values."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from protokube.core.assess import Wanted
from protokube.core.observed import Observed
from protokube.core.steps import Plan, Step


class Status(StrEnum):
    """How a step went. `LOST`: a race was lost, or it needed a right that this node does without; no failure."""

    PLANNED = "planned"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"


class StepReport(Struct, frozen=True):
    """One step as it went, in the pass of that number.

    `again`: the reconcile before did the very same; it didn't last, or isn't seen.
    """

    number: int
    step: Step
    status: Status
    error: str | None = None
    again: bool = False


class Report(Struct, frozen=True):
    """What a reconcile did, and what is left: the last plan's waiting, refusals, unknown parts and hints.

    `wanted` says what to watch until the next one. `earlier` are the steps of the reconciles before, where several of
    them are told as one.
    """

    steps: tuple[StepReport, ...]
    left: Plan
    observed: Observed
    wanted: Wanted = Wanted()
    earlier: tuple[StepReport, ...] = ()

    @property
    def failed(self) -> tuple[StepReport, ...]:
        """The steps of the reconcile that the world refused."""
        return tuple(one for one in self.steps if one.status is Status.FAILED)

    @property
    def got_on(self) -> bool:
        """A new step was done. Where every one fails, or only repeats one, another try at once would only wear out
        the other side."""
        return any(one.status is Status.DONE and not one.again for one in self.steps)

    @property
    def converged(self) -> bool:
        """Nothing planned, failed, waiting, unknown or refused."""
        return self.left.converged and not self.failed

    @property
    def in_flight(self) -> bool:
        """Something goes on by itself, and this node will see its end."""
        return any(not waiting.external for waiting in self.left.waiting)
