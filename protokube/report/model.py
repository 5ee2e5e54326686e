"""The report of a reconcile, as values."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from protokube.core.assess import Wanted
from protokube.core.observed import Observed
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


class Report(Account, frozen=True, kw_only=True):
    """The account of a reconcile. `wanted` says what to watch until the next one."""

    observed: Observed
    wanted: Wanted = Wanted()

    @property
    def got_on(self) -> bool:
        """A new step was done. Where every step fails or repeats one, another try at once would only burden the
        other side."""
        return any(one.status is Status.DONE and not one.again for one in self.steps)

    @property
    def in_flight(self) -> bool:
        """Something goes on by itself, and this node will see its end."""
        return any(not waiting.external for waiting in self.left.waiting)
