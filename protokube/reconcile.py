"""One round: observe → plan → apply, again until the plan is empty. And its account, the Report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import Enum

from msgspec import Struct, field
from msgspec.structs import replace

from protokube.apply import LIMIT, Outcome, apply
from protokube.core.actions import Action
from protokube.core.dns.actions import ChangeRecords
from protokube.core.dns.model import REMOVALS
from protokube.core.dns.owners import Absences, owners
from protokube.core.model import Facet, Unknown
from protokube.core.node.actions import MakeLink, RestartUnit, StartUnit
from protokube.core.observed import Observed
from protokube.core.plan import plan
from protokube.core.settings import NodeConfig
from protokube.core.steps import Plan, Step
from protokube.core.volumes.actions import AttachVolume, TagVolume
from protokube.core.volumes.arrivals import Arrivals
from protokube.core.volumes.model import AttachState
from protokube.core.volumes.sightings import Sightings
from protokube.errors import (
    DeviceNameTaken,
    OutcomeUnknown,
    ProtokubeError,
    ProviderError,
    TaggingForbidden,
    VolumeInUse,
    VolumeRefused,
)
from protokube.observe import Observer
from protokube.ports import Writers
from protokube.together import Limited

log = logging.getLogger("protokube")

MOST_PASSES = 60
"""More passes than the longest way takes; a round that needs more is a bug, and ends."""

EXPECTED = (VolumeInUse, DeviceNameTaken, TaggingForbidden)
"""Refusals that the next pass or round takes into account by itself; they are no trouble of this node."""

CLOUD_ANSWERS = frozenset({Facet.VOLUMES, Facet.PEERS})
CLOUD_FOR = 10.0
"""Seconds for which the cloud's answer may serve later rounds, if only the node itself has given cause for them."""

_HOUR = 3600.0


class Cause(Enum):
    """What has caused a round, which decides what it may take over from the rounds before."""

    CLOCK = "clock"
    NODE = "node"
    """Nothing but events of the node itself: the cloud's last answer may be young enough."""
    PERSON = "person"
    """Somebody who wants everything looked at."""


class NoConvergence(ProtokubeError):  # noqa: N818 - it names what is the case
    """A round did not come to an end: what it did last is in the message. A bug, never the world's fault."""


class StepReport(Struct, frozen=True):
    """One step as it went: `status` is planned, done, failed, or lost (a race, or a right that we do without).

    `again`: the round before did the very same; it didn't last, or isn't seen.
    """

    number: int
    step: Step
    status: str
    error: str | None = None
    again: bool = False


class Report(Struct, frozen=True):
    """What a round did, and what is left: the last plan's waiting, refusals, unknown parts and notes.

    `earlier` are the steps of the rounds before, where several rounds are told as one.
    """

    steps: tuple[StepReport, ...]
    left: Plan
    observed: Observed
    earlier: tuple[StepReport, ...] = ()

    @property
    def failed(self) -> tuple[StepReport, ...]:
        """The steps of the round that the world refused."""
        return tuple(one for one in self.steps if one.status == "failed")

    @property
    def got_on(self) -> bool:
        """A new step was done. Where every one fails, or only repeats one, another try at once would only wear out
        the other side."""
        return any(one.status == "done" and not one.again for one in self.steps)

    @property
    def settled(self) -> bool:
        """Nothing planned, failed, waiting, unknown or refused."""
        return self.left.settled and not self.failed

    @property
    def in_flight(self) -> bool:
        """Something goes on by itself that this node will see the end of."""
        return any(not waiting.theirs for waiting in self.left.waiting)


class Memory(Struct):
    """What is kept between rounds. Any of it may be lost at any moment; it costs delay, never an effect."""

    starts: dict[str, list[float]] = field(default_factory=dict)
    sightings: Sightings = field(default_factory=Sightings)
    absences: Absences = field(default_factory=Absences)
    arrivals: Arrivals = field(default_factory=Arrivals)
    rounds_since_reading: int = 0
    cloud_asked: float = 0.0
    acting: Limited[None] = field(default_factory=lambda: Limited(LIMIT, "the work on"))
    last: Report | None = None

    def for_another_configuration(self) -> Memory:
        """What holds whatever is configured: how often units were started, and what still hangs."""
        return Memory(starts=self.starts, acting=self.acting)

    def holds(self, now: float, most: int) -> dict[str, float]:
        """Seconds for which each unit is to be left alone, since it was started `most` times within the hour."""
        for unit, times in self.starts.items():
            self.starts[unit] = [time for time in times if now - time < _HOUR]
        return {unit: times[-most] + _HOUR - now for unit, times in self.starts.items() if len(times) >= most}

    def recall(self, observed: Observed, restarts: int) -> Observed:
        """The snapshot with what only memory can tell: for how long something has been so."""
        self.arrivals = self.arrivals.seen(observed)
        return replace(
            observed,
            absent_for=self.absences.absent_for(),
            arrivals=self.arrivals,
            answers_for=self.sightings.answers_for(observed),
            hidden=self.sightings.hidden(observed),
            holds=self.holds(observed.uptime, restarts),
            taken_devices=self.sightings.taken_devices(observed),
        )


def sync_once(
    config: NodeConfig,
    observer: Observer,
    writers: Writers,
    memory: Memory,
    *,
    records_every: int = 1,
    cause: Cause = Cause.CLOCK,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """One round. `records_every`: on a settled node records are read only in every so manyth round.

    What events of the node itself have caused begins with the cloud's last answer, as long as that is young and
    nothing is under way there. Before anything is done, what matters for it and wasn't read anew is.
    `stop` is asked between passes, so that a signal lets the actions in hand end and begins no new ones.
    """
    kept = _kept(memory, records_every, cause, remote=writers.cloud.remote, now=observer.uptime())
    observed = _begin(config, observer, memory, kept)
    before = _done(memory.last.steps) if memory.last else set()
    done: list[StepReport] = []
    for number in range(1, MOST_PASSES + 1):
        current = _without(plan(config, observed), done)
        if needed := kept & _needed(current):
            observed = _read_after_all(config, observer, memory, observed, needed)
            kept -= needed
            continue
        if not current.steps and (more := observer.late(observed)) is not None:
            observed = more
            continue
        if not current.steps or stop():
            report = Report(tuple(done), current, observed)
            memory.last = report
            return report
        outcomes = apply(writers, current.steps, memory.acting)
        done += [_account(number, outcome, before) for outcome in outcomes]
        _remember(memory, observed, outcomes)
        observed = _learn(observed, outcomes)
        changed = frozenset[Facet]().union(*(one.step.action.changes for one in outcomes if _changed(one)))
        observed = memory.recall(observer.again(observed, changed), config.kubelet_restarts)
    raise _no_end(done)


def dry_run(config: NodeConfig, observer: Observer) -> Report:
    """The whole way to the settled node, on the pure model. Has nothing in its hands that could write."""
    from protokube.core.predict import predict  # nobody else predicts

    config = replace(config, peers_patience=0.0)  # there is no second look
    before = observer.first()
    while (more := observer.late(before)) is not None:
        before = more
    observed = before
    steps: list[StepReport] = []
    for number in range(1, MOST_PASSES + 1):
        current = plan(config, observed)
        if not current.steps:
            return Report(tuple(steps), current, before)
        for step in current.steps:
            steps.append(StepReport(number, step, "planned"))
            observed = predict(config, observed, step.action)
        observed = observer.newly_asked(observed)
    raise _no_end(steps)


def _no_end(steps: Sequence[StepReport]) -> NoConvergence:
    last = steps[-1].step.action.describe() if steps else "none"
    return NoConvergence(f"no end after {MOST_PASSES} passes; last step: {last}")


def _kept(memory: Memory, records_every: int, cause: Cause, *, remote: bool, now: float) -> frozenset[Facet]:
    """What a round need not read anew. `remote`: what happens on this node doesn't change the cloud's answers."""
    last = memory.last
    kept: set[Facet] = set()
    if last is None or cause is Cause.PERSON:
        return frozenset()
    if last.settled and not last.steps and memory.rounds_since_reading + 1 < records_every:
        kept.add(Facet.RECORDS)
    if remote and cause is Cause.NODE and now - memory.cloud_asked < CLOUD_FOR and _cloud_rests(last):
        kept |= CLOUD_ANSWERS
    return frozenset(kept)


def _cloud_rests(last: Report) -> bool:
    """Whether the cloud has answered, and nothing of ours was changing there."""
    seen = last.observed
    if isinstance(seen.instance, Unknown) or isinstance(seen.volumes, Unknown) or isinstance(seen.peers, Unknown):
        return False
    ours = [one for volume in seen.volumes if (one := volume.attachment_to(seen.instance.id))]
    shown = {volume.id for volume in seen.volumes if volume.attachments}
    return (
        not (last.failed or seen.hidden)
        and seen.asked <= shown
        and all(one.state is AttachState.ATTACHED for one in ours)
    )


def _begin(config: NodeConfig, observer: Observer, memory: Memory, kept: frozenset[Facet]) -> Observed:
    memory.rounds_since_reading = memory.rounds_since_reading + 1 if Facet.RECORDS in kept else 0
    observed = observer.first(memory.last.observed if memory.last else None, kept)
    if not kept & CLOUD_ANSWERS:
        _cloud_asked(memory, observed)
    return memory.recall(observed, config.kubelet_restarts)


def _needed(current: Plan) -> frozenset[Facet]:
    """What must be known from this very round for a plan to be carried out: what the cloud says for any step, and
    records only where they matter, so that nothing else waits for a name server."""
    if not current.steps:
        return frozenset()
    names = any(isinstance(step.action, ChangeRecords | MakeLink) for step in current.steps)
    return CLOUD_ANSWERS | {Facet.RECORDS} if names else CLOUD_ANSWERS


def _read_after_all(
    config: NodeConfig, observer: Observer, memory: Memory, observed: Observed, kept: frozenset[Facet]
) -> Observed:
    """The snapshot with what was taken over from earlier rounds read anew: nothing is done on old answers."""
    observed = observer.again(observed, kept)
    if Facet.RECORDS in kept:
        memory.rounds_since_reading = 0
    if kept & CLOUD_ANSWERS:
        _cloud_asked(memory, observed)
    return memory.recall(observed, config.kubelet_restarts)


def _cloud_asked(memory: Memory, observed: Observed) -> None:
    """Remember what the cloud's answer says of the others."""
    memory.cloud_asked = observed.uptime
    if not isinstance(observed.instance, Unknown):
        memory.absences = memory.absences.seen(
            observed.uptime, observed.instance.id, observed.peers, owners(observed.records)
        )


def _changed(outcome: Outcome) -> bool:
    """Whether the world has to be looked at again. What the cloud has plainly refused has changed nothing."""
    plain = not isinstance(outcome.error, VolumeInUse | OutcomeUnknown | DeviceNameTaken)
    asked_the_cloud = isinstance(outcome.step.action, AttachVolume | TagVolume)
    return outcome.error is None or not (asked_the_cloud and plain)


def _without(current: Plan, done: Sequence[StepReport]) -> Plan:
    """The plan without what this round has done already and the world doesn't show yet: answers may lag behind."""
    actions = _done(done)
    for step in current.steps:
        if step.action in actions:
            current.wait(step.action.subject, f"{step.action.describe()}: done, and not seen yet")
    current.steps = [step for step in current.steps if step.action not in actions]
    return current


def _done(steps: Sequence[StepReport]) -> set[Action]:
    return {one.step.action for one in steps if one.status == "done"}


def _account(number: int, outcome: Outcome, before: set[Action]) -> StepReport:
    action, error = outcome.step.action, outcome.error
    if error is None:
        level = logging.WARNING if outcome.step.loud else logging.INFO
        log.log(level, "%s (%s)", action.describe(), outcome.step.reason, extra={"action": action.kind})
        return StepReport(number, outcome.step, "done", again=action in before)
    if isinstance(error, EXPECTED):
        log.info("%s: %s", action.describe(), error, extra={"action": action.kind})
        return StepReport(number, outcome.step, "lost", str(error))
    log.warning("%s failed: %s", action.describe(), error, extra={"action": action.kind})
    return StepReport(number, outcome.step, "failed", str(error))


def _remember(memory: Memory, observed: Observed, outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        action = outcome.step.action
        # A start that failed is followed by the round's own back-off.
        if isinstance(action, StartUnit | RestartUnit) and outcome.error is None:
            memory.starts.setdefault(action.unit, []).append(observed.uptime)
        if isinstance(action, AttachVolume) and _may_have_worked(outcome.error):
            memory.sightings.asked(action.volume_id, observed.uptime)
        if isinstance(outcome.error, VolumeRefused):
            memory.sightings.refused(action.subject)
        if isinstance(outcome.error, DeviceNameTaken):
            memory.sightings.conflict(outcome.error.device, observed.uptime)


def _may_have_worked(error: ProviderError | None) -> bool:
    """Whether a volume that was asked for may be ours now."""
    return error is None or isinstance(error, VolumeInUse | OutcomeUnknown)


def _learn(observed: Observed, outcomes: Sequence[Outcome]) -> Observed:
    """A subject whose action failed is left alone for the rest of the round, unless another try may go better."""
    failed, asked, refused = set(observed.failed), set(observed.asked), set(observed.refused)
    removed = observed.removed
    for outcome in outcomes:
        action, error = outcome.step.action, outcome.error
        if error is not None and not isinstance(error, DeviceNameTaken):
            failed.add(action.subject)
        if isinstance(error, VolumeRefused):
            refused.add(action.subject)
        if isinstance(action, AttachVolume) and _may_have_worked(error):
            asked.add(action.subject)
        if isinstance(action, ChangeRecords) and action.batch == REMOVALS:
            removed += len(action.records)
    return replace(
        observed,
        failed=frozenset(failed),
        asked=frozenset(asked),
        refused=frozenset(refused),
        removed=removed,
    )
