"""Actions → port calls: every action executes itself on the port that it names."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial

from msgspec import Struct

from protokube.core.action import Action
from protokube.core.steps import Step
from protokube.errors import ProviderError
from protokube.ports import Writers
from protokube.together import Limited

LIMIT = 75.0
"""Seconds within which an action ends. Longer than any has by itself (mounting: 60), so that only writing to a dead
disk gets there, and shorter than the watchdog's patience: an action that hangs is reported as a failure."""


class Outcome(Struct, frozen=True):
    """The outcome of a step: `error` is None when the world took it."""

    step: Step
    error: ProviderError | None = None


def execute(writers: Writers, action: Action) -> None:
    """Execute one action. Raises ProviderError when the world refuses it."""
    action.execute(writers[action.port])


def apply(writers: Writers, steps: Sequence[Step], limited: Limited[None]) -> list[Outcome]:
    """Execute the steps of one pass side by side; of several with the same lock only the first.

    A step that hangs has failed, with an unknown outcome. Until it ends, nothing else is done under its lock.
    """
    first = {step.action.lock: step for step in reversed(steps)}
    ended = limited.run({lock: partial(execute, writers, step.action) for lock, step in first.items()})
    return [Outcome(step, _error(ended[step.action.lock])) for step in steps if first[step.action.lock] is step]


def _error(future: Future[None]) -> ProviderError | None:
    try:
        future.result()
    except ProviderError as error:
        return error
    return None
