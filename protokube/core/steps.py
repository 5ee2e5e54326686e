"""The parts of a plan: steps that can be taken now, and the reasons for everything that can't."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from protokube.core.action import Action


class Step(Struct, frozen=True):
    """An action whose preconditions hold.

    `depends` names an assumption of a dry run that only the world can confirm. `warning`: it is taken although
    something is wrong, and people should know.
    """

    action: Action
    reason: str
    depends: str | None = None
    warning: bool = False


class Waiting(Struct, frozen=True):
    """Something that will go on without another action. `external`: by another node's doing, or by mere time."""

    subject: str
    reason: str
    external: bool = False


class Refusal(Struct, frozen=True):
    """A subject that protokube leaves alone, the stable id of the rule, and the evidence.

    `serious` is False where another volume does the job, so that the node is converged nevertheless.
    """

    subject: str
    rule: str
    evidence: str
    serious: bool = True


class UnknownPart(Struct, frozen=True):
    """A part of the world that could not be read: nothing is decided about it."""

    subject: str
    reason: str


class InUseElsewhere(Struct, frozen=True):
    """A volume of this cluster, in any zone, that is attached to another instance. It is a fact, not a fault."""

    subject: str
    holder: str
    zone: str


class AcceptedRefusal(Struct, frozen=True):
    """A refusal that the operator has overruled once, for this filesystem, and that has not had its effect yet."""

    subject: str
    rule: str
    filesystem: str


class Findings(Struct):
    """A judgement's messages for people, gathered while it is made. `hints` decide nothing."""

    waiting: list[Waiting] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    unknown: list[UnknownPart] = field(default_factory=list)
    in_use_elsewhere: list[InUseElsewhere] = field(default_factory=list)
    accepted: list[AcceptedRefusal] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def wait(self, subject: str, reason: str, *, external: bool = False) -> None:
        """Report a wait."""
        self.waiting.append(Waiting(subject, reason, external))

    def refuse(self, subject: str, rule: str, evidence: str, *, serious: bool = True) -> None:
        """Report a refusal."""
        self.refusals.append(Refusal(subject, rule, evidence, serious))

    def not_known(self, subject: str, reason: str) -> None:
        """Report an unknown part of the world."""
        self.unknown.append(UnknownPart(subject, reason))

    def add(self, other: Findings) -> None:
        """Add another judgement's messages. A part that both report as unknown appears once."""
        self.waiting += other.waiting
        self.refusals += other.refusals
        self.unknown += [one for one in other.unknown if one not in self.unknown]
        self.in_use_elsewhere += other.in_use_elsewhere
        self.accepted += other.accepted
        self.hints += other.hints

    @property
    def converged(self) -> bool:
        """Nothing waiting, unknown or refused."""
        return not (self.unknown or self.waiting or any(refusal.serious for refusal in self.refusals))


class Plan(Findings):
    """A plan under construction; planners add to it, one after the other.

    `failed` are the subjects whose actions failed in this reconcile: they are left alone until the next one.
    `assumed` (prediction only): volume → the assumption that the world has yet to confirm.
    """

    steps: list[Step] = field(default_factory=list)
    failed: frozenset[str] = frozenset()
    assumed: Mapping[str, str] = field(default_factory=dict)

    def step(self, action: Action, reason: str, *, volume: str | None = None, warning: bool = False) -> None:
        """Add a step, unless its subject already failed in this reconcile."""
        if action.subject in self.failed:
            return
        self.steps.append(Step(action, reason, self.assumed.get(volume) if volume else None, warning))

    @property
    def converged(self) -> bool:
        """Nothing planned, waiting, unknown or refused."""
        return not self.steps and super().converged
