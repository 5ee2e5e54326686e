"""The report of a reconcile, as a value."""

from __future__ import annotations

from protokube.core.assess import Wanted
from protokube.core.observed import Observed
from protokube.report.account import Account, Status


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
