"""One reconcile: look → judge → plan → act, again until the plan is empty."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from msgspec import Struct, field
from msgspec.structs import replace

from protokube.apply import LIMIT, Outcome, apply
from protokube.core.action import Action, Facet
from protokube.core.dns.actions import ChangeRecords
from protokube.core.history import History, Result
from protokube.core.model import Unknown
from protokube.core.node.actions import MakeLink
from protokube.core.plan import plan
from protokube.core.predict import Predicted, predict
from protokube.core.steps import Plan
from protokube.core.volumes.actions import CloudAction
from protokube.core.volumes.model import AttachState
from protokube.errors import (
    DeviceConflictError,
    OutcomeUnknownError,
    ProtokubeError,
    ProviderError,
    TaggingForbiddenError,
    VolumeDeniedError,
    VolumeInUseError,
)
from protokube.observe.asking import LIMIT as READ_LIMIT
from protokube.observe.observer import Observer
from protokube.observe.view import View
from protokube.ports import Writers
from protokube.report.account import Status, StepReport
from protokube.report.model import Report
from protokube.together import Limited

log = logging.getLogger("protokube")

MOST_PASSES = 60
"""More passes than the longest way takes; a reconcile that needs more is a bug, and ends."""

EXPECTED = (VolumeInUseError, DeviceConflictError, TaggingForbiddenError)
"""Refusals that the next pass or reconcile takes into account by itself; they are no trouble of this node."""

ALL_KEPT = frozenset({Facet.CLOUD, Facet.RECORDS})
"""The facets that a reconcile may take over from the one before."""

CLOUD_FOR = 10.0
"""Seconds for which the cloud's answer may serve later reconciles, if only the node itself has given cause for
them."""


class Cause(Enum):
    """The cause of a reconcile, which decides the facts that it may take over from the one before."""

    CLOCK = "clock"
    NODE = "node"
    """Nothing but events of the node itself: the cloud's last answer may be young enough."""
    PERSON = "person"
    """A person's signal: everything is read."""


class NoConvergenceError(ProtokubeError):
    """A reconcile did not end; the message names its last step. A bug, never the world's fault."""


class Memory(Struct):
    """The memory between reconciles. Any of it may be lost at any moment; that costs delay, never an effect (law
    2)."""

    history: History = History()
    converged_unread: int = 0
    """How many reconciles in a row have taken over the records."""
    cloud_asked: float = 0.0
    acting: Limited[None] = field(default_factory=lambda: Limited[None](LIMIT, "the work on"))
    reading: Limited[object] = field(default_factory=lambda: Limited[object](READ_LIMIT, "reading"))
    last: Report | None = None

    def for_another_configuration(self) -> Memory:
        """The part that holds for any configuration: how often units were started, and calls that still hang."""
        history = self.history.for_another_configuration()
        return Memory(history=history, acting=self.acting, reading=self.reading)


def reconcile(
    observer: Observer,
    writers: Writers,
    memory: Memory,
    *,
    remote_cloud: bool = False,
    records_every: int = 1,
    cause: Cause = Cause.CLOCK,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """One reconcile. `records_every`: on a converged node records are read only in every so manyth reconcile.

    An event of the node itself lets it begin with the cloud's last answer, as long as that is young and nothing is
    under way there. Before it acts, it reads what matters for the action and was taken over. `stop` is asked between
    passes, so that a signal lets the actions in hand end and begins no new ones.
    """
    kept = _kept(memory, records_every, cause, remote=remote_cloud, now=observer.uptime())
    memory.converged_unread = memory.converged_unread + 1 if Facet.RECORDS in kept else 0
    memory.history = memory.history.next_reconcile()
    if cause is Cause.PERSON:
        observer.ask_again()
    view = observer.first(memory.history, memory.last.observed if memory.last else None, kept)
    _note_reading(memory, view, ALL_KEPT - kept)
    before = _done(memory.last.steps) if memory.last else set()
    done: list[StepReport] = []
    for number in range(1, MOST_PASSES + 1):
        current = _without(plan(view.judged, view.history.failed), done)
        if needed := kept & _needed(current):
            view = observer.again(view, needed)
            _note_reading(memory, view, needed)
            kept -= needed
            continue
        if not current.steps and (more := observer.late(view)) is not None:
            view = more
            continue
        memory.history = view.history
        if not current.steps or stop():
            memory.last = Report(tuple(done), current, observed=view.observed, wanted=view.judged.wanted)
            return memory.last
        outcomes = apply(writers, current.steps, memory.acting)
        done += [_account(number, outcome, before) for outcome in outcomes]
        view = replace(view, history=_recorded(view.history, outcomes, view.observed.at.uptime))
        view = observer.again(view, _changes(outcomes))
    raise _no_end(done)


def dry_run(observer: Observer) -> Report:
    """The whole way to the converged node, on the pure model. It holds no port that could write."""
    view = observer.first(History())
    while (more := observer.late(view)) is not None:
        view = more
    before = view.observed
    world = Predicted(before)
    steps: list[StepReport] = []
    for number in range(1, MOST_PASSES + 1):
        current = plan(view.judged, assumed=world.assumed)
        if not current.steps:
            return Report(tuple(steps), current, observed=before, wanted=view.judged.wanted)
        for step in current.steps:
            steps.append(StepReport(number, step, Status.PLANNED))
            world = predict(observer.config, world, step.action)
        view = observer.newly_wanted(world.observed, view.history)
        world = replace(world, observed=view.observed)
    raise _no_end(steps)


def _no_end(steps: Sequence[StepReport]) -> NoConvergenceError:
    last = steps[-1].step.action.describe() if steps else "none"
    return NoConvergenceError(f"no end after {MOST_PASSES} passes; last step: {last}")


def _kept(memory: Memory, records_every: int, cause: Cause, *, remote: bool, now: float) -> frozenset[Facet]:
    """The facets that a reconcile need not read. `remote`: events on this node don't change the cloud's answers."""
    last = memory.last
    kept: set[Facet] = set()
    if last is None or cause is Cause.PERSON:
        return frozenset()
    if last.converged and not last.steps and memory.converged_unread + 1 < records_every:
        kept.add(Facet.RECORDS)
    if remote and cause is Cause.NODE and now - memory.cloud_asked < CLOUD_FOR and _cloud_rests(last):
        kept.add(Facet.CLOUD)
    return frozenset(kept)


def _cloud_rests(last: Report) -> bool:
    """Whether the cloud has answered, and nothing of ours was changing there."""
    cloud = last.observed.cloud
    if isinstance(cloud.instance, Unknown) or isinstance(cloud.volumes, Unknown) or isinstance(cloud.peers, Unknown):
        return False
    ours = [one for volume in cloud.volumes if (one := volume.attachment_to(cloud.instance.id))]
    return not last.failed and all(one.state is AttachState.ATTACHED for one in ours)


def _needed(current: Plan) -> frozenset[Facet]:
    """The facets that this very reconcile must have read before it carries out a plan.

    The cloud's answer for any step; records only where they matter, so that nothing else waits for a name server.
    """
    if not current.steps:
        return frozenset()
    names = any(isinstance(step.action, ChangeRecords | MakeLink) for step in current.steps)
    return ALL_KEPT if names else frozenset({Facet.CLOUD})


def _note_reading(memory: Memory, view: View, read: frozenset[Facet]) -> None:
    if Facet.RECORDS in read:
        memory.converged_unread = 0
    if Facet.CLOUD in read:
        memory.cloud_asked = view.observed.at.uptime


def _changes(outcomes: Sequence[Outcome]) -> frozenset[Facet]:
    return frozenset[Facet]().union(*(one.step.action.changes for one in outcomes if _changed(one)))


def _changed(outcome: Outcome) -> bool:
    """Whether the world has to be read again. A plain refusal by the cloud has changed nothing."""
    plain = not isinstance(outcome.error, VolumeInUseError | OutcomeUnknownError | DeviceConflictError)
    asked_the_cloud = isinstance(outcome.step.action, CloudAction)
    return outcome.error is None or not (asked_the_cloud and plain)


def _without(current: Plan, done: Sequence[StepReport]) -> Plan:
    """The plan without actions that this reconcile has done already: answers that don't show them yet lag behind."""
    actions = _done(done)
    for step in current.steps:
        if step.action in actions:
            current.wait(step.action.subject, f"{step.action.describe()}: done, and not seen yet")
    current.steps = [step for step in current.steps if step.action not in actions]
    return current


def _done(steps: Sequence[StepReport]) -> set[Action]:
    return {one.step.action for one in steps if one.status is Status.DONE}


def _account(number: int, outcome: Outcome, before: set[Action]) -> StepReport:
    action, error = outcome.step.action, outcome.error
    if error is None:
        level = logging.WARNING if outcome.step.warning else logging.INFO
        log.log(level, "%s (%s)", action.describe(), outcome.step.reason, extra={"action": action.kind})
        return StepReport(number, outcome.step, Status.DONE, again=action in before)
    if isinstance(error, EXPECTED):
        log.info("%s: %s", action.describe(), error, extra={"action": action.kind})
        return StepReport(number, outcome.step, Status.LOST, str(error))
    log.warning("%s failed: %s", action.describe(), error, extra={"action": action.kind})
    return StepReport(number, outcome.step, Status.FAILED, str(error))


RESULTS: Mapping[type[ProviderError], Result] = {
    VolumeInUseError: Result.UNCERTAIN,
    OutcomeUnknownError: Result.UNCERTAIN,
    VolumeDeniedError: Result.DENIED,
    DeviceConflictError: Result.CONFLICT,
}
"""The result that an error stands for; every other error is a plain failure."""


def _recorded(history: History, outcomes: Sequence[Outcome], uptime: float) -> History:
    for outcome in outcomes:
        result = Result.DONE if outcome.error is None else RESULTS.get(type(outcome.error), Result.FAILED)
        history = history.recorded(outcome.step.action, result, uptime)
    return history
