"""Verdicts of probes from their results, as kubelet counts them.

Startup gates the others. A liveness probe passes until it fails, a readiness probe fails until it passes. Results
belong to one attempt of a container: the next one begins from nothing.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from protokube.agent.core.lifecycle import Verdict
from protokube.agent.core.model import Container, Probe

STARTUP, LIVENESS, READINESS = "startup", "liveness", "readiness"


class Tally(Struct, frozen=True):
    """Results in a row of one probe, and the verdict they have led to so far."""

    successes: int = 0
    failures: int = 0
    passed: bool | None = None
    message: str = ""


class Tallies(Struct, frozen=True):
    """The tallies of one attempt of a container."""

    startup: Tally = Tally()
    liveness: Tally = Tally()
    readiness: Tally = Tally()


def probes_of(container: Container) -> dict[str, Probe]:
    """The container's probes by kind."""
    found = {
        STARTUP: container.startup_probe,
        LIVENESS: container.liveness_probe,
        READINESS: container.readiness_probe,
    }
    return {kind: probe for kind, probe in found.items() if probe is not None}


def due(container: Container, tallies: Tallies, kind: str) -> bool:
    """Whether a probe is to be made: startup until it has passed, the others from then on."""
    if container.startup_probe is None:
        return True
    return (tallies.startup.passed is not True) == (kind == STARTUP)


def count(tallies: Tallies, kind: str, probe: Probe, ok: bool, message: str = "") -> Tallies:
    """Count one result."""
    before: Tally = getattr(tallies, kind)
    tally = Tally(before.successes + 1 if ok else 0, 0 if ok else before.failures + 1, before.passed, message)
    if tally.successes >= probe.success_threshold:
        tally = replace(tally, passed=True)
    elif tally.failures >= probe.failure_threshold:
        tally = replace(tally, passed=False)
    return replace(tallies, **{kind: tally})


def verdict(container: Container, tallies: Tallies) -> Verdict:
    """What the probes say of a running container."""
    started = container.startup_probe is None or tallies.startup.passed is True
    ready = started and (container.readiness_probe is None or tallies.readiness.passed is True)
    for kind, probe in probes_of(container).items():
        tally: Tally = getattr(tallies, kind)
        if kind != READINESS and tally.passed is False:
            grace = probe.termination_grace_period_seconds
            return Verdict(started, False, False, f"its {kind} probe failed: {tally.message}", grace)
    return Verdict(started, True, ready)
