"""What a pod's containers need next: kubelet's order, restarts and ends, for every runtime alike.

Init containers run one after the other to exit 0. One whose restartPolicy is Always (a sidecar) only has to start and
to pass its startup probe; it ends after the main containers, the last one first. Everything follows from the
containers that exist, the verdicts of probes and the pauses: nothing else is remembered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from protokube.agent.core.backoff import Pause
from protokube.agent.core.model import Container, Spec

CREATED, RUNNING, EXITED = "created", "running", "exited"


class ContainerId(Struct, frozen=True, order=True):
    """One start of one container of a pod; attempts count from 0."""

    uid: str
    container: str
    attempt: int

    def __str__(self) -> str:
        return f"protokube-{self.uid}-{self.container}-{self.attempt}"


class ContainerState(Struct, frozen=True):
    """A container as its runtime shows it. Times are seconds since the epoch."""

    id: ContainerId
    state: str
    started_at: float | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    oom: bool = False
    handle: str = ""
    """The runtime's own name for it."""
    message: str = ""
    """Why it ended, in one word, where the runtime knows more than the exit code."""

    @property
    def up(self) -> bool:
        """Whether it may still do something."""
        return self.state != EXITED

    @property
    def succeeded(self) -> bool:
        """Whether it exited with 0."""
        return self.state == EXITED and self.exit_code == 0


class Verdict(Struct, frozen=True):
    """What the probes of a running container say. Without a probe it is started, alive and ready."""

    started: bool = True
    alive: bool = True
    ready: bool = True
    reason: str = ""
    grace: int | None = None
    """Seconds for its end, where the probe that failed has its own."""


class Ending(Struct, frozen=True):
    """The pod has to end: since when and within how many seconds, by the clock of `Life.now`."""

    since: float
    grace: float
    reason: str = ""


class Life(Struct, frozen=True):
    """A pod's containers at one moment.

    `containers`: the latest attempt of each, by name. `lost`: containers that were started in this boot and are gone.
    `begun`: the main containers were started once in this boot. `verdicts` and `pauses` by container name. `now` is
    boot time in seconds. `age`: seconds since the pod started.
    """

    spec: Spec
    containers: Mapping[str, ContainerState] = {}
    lost: frozenset[str] = frozenset()
    begun: bool = False
    verdicts: Mapping[str, Verdict] = {}
    pauses: Mapping[str, Pause] = {}
    ending: Ending | None = None
    now: float = 0.0
    age: float = 0.0

    def verdict(self, name: str) -> Verdict:
        """What the probes say."""
        return self.verdicts.get(name, Verdict())


class Start(Struct, frozen=True):
    """Start the next attempt of a container."""

    container: str


class Stop(Struct, frozen=True):
    """End a container within `grace` seconds from now."""

    container: str
    grace: float
    reason: str


class Gone(Struct, frozen=True):
    """No container is left to end: the pod is gone."""


class Decision(Struct, frozen=True):
    """What is to be done now, and the boot time of the next look; None: an event tells.

    `failed`: the pod has failed for good, and why (`reason`).
    """

    deeds: tuple[Start | Stop | Gone, ...] = ()
    look_at: float | None = None
    failed: str | None = None


def decide(life: Life) -> Decision:
    """Decide what the pod's containers need next."""
    if life.ending is not None:
        return Decision(tuple(_end(life, life.ending)))
    limit = life.spec.active_deadline_seconds
    if (failed := failure(life)) is not None or is_over(life):
        ended = _end(life, Ending(life.now, life.spec.termination_grace_period_seconds))
        return Decision(tuple(one for one in ended if not isinstance(one, Gone)), failed=failed)
    deeds: list[Start | Stop | Gone] = []
    times: list[float] = []
    for one in _next(life):
        if isinstance(one, float):
            times.append(one)
        else:
            deeds.append(one)
    if limit is not None:
        times.append(life.now + max(0.0, limit - life.age))
    return Decision(tuple(deeds), min(times, default=None))


def failure(life: Life) -> str | None:
    """Why the pod has failed as a whole, None while it may go on or has simply ended."""
    limit = life.spec.active_deadline_seconds
    if limit is not None and life.age >= limit and not is_over(life):
        return "DeadlineExceeded"
    return None


def is_over(life: Life) -> bool:
    """Whether no container will be started again, and the main ones have ended (or can't begin)."""
    if any(_init_failed(life, one) for one in life.spec.init_containers):
        return True
    states = [life.containers.get(one.name) for one in life.spec.containers]
    if not any(
        state is not None or one.name in life.lost for state, one in zip(states, life.spec.containers, strict=True)
    ):
        return False
    return all(_finished(life, one) for one in life.spec.containers)


def initialized(life: Life) -> bool:
    """Whether the main containers may start, or have."""
    if _begun(life):
        return True
    return all(_is_done(life, one) for one in life.spec.init_containers)


def _begun(life: Life) -> bool:
    return life.begun or any(one.name in life.containers for one in life.spec.containers)


def _is_done(life: Life, one: Container) -> bool:
    state = life.containers.get(one.name)
    if state is None:
        return False
    if one.sidecar:
        return state.state == RUNNING and life.verdict(one.name).started
    return state.succeeded


def _init_failed(life: Life, one: Container) -> bool:
    if one.sidecar or _begun(life) or life.spec.restart_policy != "Never":
        return False
    state = life.containers.get(one.name)
    return one.name in life.lost or (state is not None and state.state == EXITED and not state.succeeded)


def _finished(life: Life, one: Container) -> bool:
    """Whether a main container has ended and its policy lets it rest."""
    state = life.containers.get(one.name)
    if life.spec.restart_policy == "Always":
        return False
    if state is None:
        return one.name in life.lost and life.spec.restart_policy == "Never"
    if state.state != EXITED:
        return False
    return life.spec.restart_policy == "Never" or state.succeeded


def _next(life: Life) -> Iterator[Start | Stop | float]:
    """What keeps the pod going; a float is the boot time of the next look."""
    begun = _begun(life)
    for one in life.spec.init_containers:
        if one.sidecar or not (begun or _is_done(life, one)):
            yield from _keep(life, one)
        if not begun and not _is_done(life, one):
            return
    for one in life.spec.containers:
        if not _finished(life, one):
            yield from _keep(life, one)


def _keep(life: Life, one: Container) -> Iterator[Start | Stop | float]:
    """Start a container that is down, once its pause is over; end one that its probes condemn."""
    state = life.containers.get(one.name)
    if state is not None and state.up:
        verdict = life.verdict(one.name)
        if state.state == RUNNING and not verdict.alive:
            grace = life.spec.termination_grace_period_seconds if verdict.grace is None else verdict.grace
            yield Stop(one.name, grace, verdict.reason)
        return
    pause = life.pauses.get(one.name, Pause())
    if life.now < pause.until:
        yield pause.until
    else:
        yield Start(one.name)


def _end(life: Life, ending: Ending) -> Iterator[Stop | Gone]:
    """End the main containers and plain init containers, then the sidecars, the last one first."""
    left = max(0.0, ending.since + ending.grace - life.now)
    plain = [*life.spec.containers, *(one for one in life.spec.init_containers if not one.sidecar)]
    up = [one.name for one in plain if (state := life.containers.get(one.name)) is not None and state.up]
    reason = ending.reason or "the pod ends"
    if up:
        yield from (Stop(name, left, reason) for name in up)
        return
    for one in reversed(life.spec.init_containers):
        state = life.containers.get(one.name)
        if one.sidecar and state is not None and state.up:
            yield Stop(one.name, max(left, 1.0), reason)
            return
    yield Gone()
