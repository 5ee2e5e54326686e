"""What a plan consists of: steps that can be taken now, and everything that can't, with its reason."""

from __future__ import annotations

from msgspec import Struct, field

from protokube.core.actions import Action
from protokube.core.observed import Observed


class Step(Struct, frozen=True):
    """An action whose ground is laid. `depends` says what only the world can confirm (dry run); `loud` that it is
    taken although something is wrong, and people should hear of it."""

    action: Action
    reason: str
    depends: str | None = None
    loud: bool = False


class Waiting(Struct, frozen=True):
    """Something that will go on without another action. `theirs`: it is another node's doing, or a mere timer."""

    subject: str
    reason: str
    theirs: bool = False


class Refusal(Struct, frozen=True):
    """Something that protokube will not do, the stable id of the rule, and the evidence.

    `serious` is False where another volume does the job, so that the node is settled all the same.
    """

    subject: str
    rule: str
    evidence: str
    serious: bool = True


class UnknownPart(Struct, frozen=True):
    """A part of the world that could not be read, so that nothing is decided about it."""

    subject: str
    reason: str


class Held(Struct, frozen=True):
    """A volume of this cluster, in whatever zone, that another instance holds: no trouble, a fact."""

    subject: str
    holder: str
    zone: str


class Plan(Struct):
    """A plan under construction; planners add to it, one after the other. `notes` are for people only.

    `held` are the volumes that other instances hold.
    """

    steps: list[Step] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    unknown: list[UnknownPart] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def step(
        self, observed: Observed, action: Action, reason: str, *, volume: str | None = None, loud: bool = False
    ) -> None:
        """Add a step, unless its subject already failed in this round."""
        if action.subject in observed.failed:
            return
        self.steps.append(Step(action, reason, observed.assumed.get(volume) if volume else None, loud))

    def wait(self, subject: str, reason: str, *, theirs: bool = False) -> None:
        """Say what is being waited for."""
        self.waiting.append(Waiting(subject, reason, theirs))

    def refuse(self, subject: str, rule: str, evidence: str, *, serious: bool = True) -> None:
        """Say what is refused, and why."""
        self.refusals.append(Refusal(subject, rule, evidence, serious))

    def ignorance(self, subject: str, reason: str) -> None:
        """Say what is not known."""
        self.unknown.append(UnknownPart(subject, reason))

    @property
    def settled(self) -> bool:
        """Nothing planned, waiting, unknown or refused."""
        return not (self.steps or self.unknown or self.waiting or any(refusal.serious for refusal in self.refusals))
