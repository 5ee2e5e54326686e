"""What a run has done and left, as values: a reconcile's, and nodeup's."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from protokube.core.steps import Plan, Step


class Status(StrEnum):
    """The outcome of a step. `LOST`: another node won, or the node does without the right it needs; no failure."""

    PLANNED = "planned"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"


class StepReport(Struct, frozen=True):
    """One step, in the pass of that number.

    `again`: the reconcile before did the same, and its effect didn't last or isn't visible yet.
    """

    number: int
    step: Step
    status: Status
    error: str | None = None
    again: bool = False


class Account(Struct, frozen=True):
    """The steps of a run, and what is left: the last plan's waiting, refusals, unknown parts and hints.

    `earlier` are the steps of the runs before, where one report covers several.
    """

    steps: tuple[StepReport, ...]
    left: Plan
    earlier: tuple[StepReport, ...] = ()

    @property
    def failed(self) -> tuple[StepReport, ...]:
        """The steps of the run that the world refused."""
        return tuple(one for one in self.steps if one.status is Status.FAILED)

    @property
    def converged(self) -> bool:
        """Nothing planned, failed, waiting, unknown or refused."""
        return self.left.converged and not self.failed
