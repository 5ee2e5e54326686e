"""look → judge → plan → act, again until the plan is empty; and the same on predicted facts."""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec.structs import replace

from nodeup.observe import Observer
from protokube.apply import Outcome, apply
from protokube.core.action import Action
from protokube.core.node.machine import MachineFacts
from protokube.core.node.needs import needs
from protokube.core.steps import Plan, Step
from protokube.errors import ProtokubeError, ProviderError
from protokube.ports import Writers
from protokube.report.account import Account, Status, StepReport
from protokube.together import Limited

log = logging.getLogger("protokube")

MOST_PASSES = 30
"""More passes than the longest way takes; a run that needs more is a bug, and ends."""

LIMIT = 3600.0
"""Seconds within which an action ends: a slow mirror, and packages."""


class NoEndError(ProtokubeError):
    """A run did not end. A bug, never the world's fault."""


class Run:
    """A run's outcome: its account, the machine's facts, and the errors that ended steps."""

    def __init__(
        self, account: Account, machine: MachineFacts, errors: tuple[tuple[Action, ProviderError], ...] = ()
    ) -> None:
        self.account = account
        self.machine = machine
        self.errors = errors


def converge(observer: Observer, writers: Writers, begun: Callable[[Step], None] = lambda _step: None) -> Run:
    """Make the machine what it is to be. A subject whose action failed is left alone until the next run."""
    acting = Limited[None](LIMIT, "the work on")
    done: list[StepReport] = []
    errors: list[tuple[Action, ProviderError]] = []
    for number in range(1, MOST_PASSES + 1):
        view = observer.look()
        failed = frozenset(action.subject for action, _ in errors)
        current = _without(needs(view.wanted, view.facts, failed), done)
        if not current.steps:
            return Run(Account(tuple(done), current), view.facts.machine, tuple(errors))
        for step in current.steps:
            begun(step)
        for outcome in apply(writers, current.steps, acting):
            done.append(_account(number, outcome))
            if outcome.error is not None:
                errors.append((outcome.step.action, outcome.error))
    raise NoEndError(f"no end after {MOST_PASSES} passes; last step: {done[-1].step.action.describe()}")


def dry_run(observer: Observer, now: float) -> Run:
    """The whole way on predicted facts. It holds nothing that could write."""
    view = observer.look()
    found = view.facts.machine
    steps: list[StepReport] = []
    for number in range(1, MOST_PASSES + 1):
        current = needs(view.wanted, view.facts)
        if not current.steps:
            return Run(Account(tuple(steps), current), found)
        facts = view.facts
        for step in current.steps:
            steps.append(StepReport(number, step, Status.PLANNED))
            part = step.action.facts
            facts = replace(facts, **{part: step.action.predict(getattr(facts, part), now)})
        view = observer.again(facts)
    raise NoEndError(f"no end after {MOST_PASSES} passes; last step: {steps[-1].step.action.describe()}")


def _without(current: Plan, done: list[StepReport]) -> Plan:
    """The plan without what this run has done already: it had no effect, or one that didn't last."""
    actions = {one.step.action for one in done if one.status is Status.DONE}
    for step in current.steps:
        if step.action in actions:
            current.wait(step.action.subject, f"{step.action.describe()}: done, and not to be seen")
    current.steps = [step for step in current.steps if step.action not in actions]
    return current


def _account(number: int, outcome: Outcome) -> StepReport:
    action, error = outcome.step.action, outcome.error
    if error is None:
        log.info("%s (%s)", action.describe(), outcome.step.reason, extra={"action": action.kind})
        return StepReport(number, outcome.step, Status.DONE)
    log.warning("%s failed: %s", action.describe(), error, extra={"action": action.kind})
    return StepReport(number, outcome.step, Status.FAILED, str(error))
