"""Actions → port calls: one match, closed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import assert_never

from msgspec import Struct

from protokube.core.actions import Action
from protokube.core.disks.actions import CheckFilesystem, FormatVolume, GrowFilesystem, MountVolume
from protokube.core.dns.actions import ChangeRecords
from protokube.core.node.actions import MakeDirectory, MakeLink, RestartUnit, StartUnit, Unlink, WriteFile
from protokube.core.steps import Step
from protokube.core.volumes.actions import AnnounceAddresses, AttachVolume, TagVolume
from protokube.errors import ProviderError
from protokube.ports import Writers
from protokube.together import Limited

LIMIT = 75.0
"""Seconds within which an action ends. Longer than any has by itself (mounting: 60), so that only writing to a dead
disk gets there, and shorter than the watchdog's patience: one that hangs is a failure that is told."""


class Outcome(Struct, frozen=True):
    """What came of a step: `error` is None when the world took it."""

    step: Step
    error: ProviderError | None = None


def perform(writers: Writers, action: Action) -> None:
    """Carry out one action; raises ProviderError when the world refuses."""
    match action:
        case AttachVolume():
            writers.cloud.attach(action.volume_id, action.device)
        case TagVolume():
            writers.cloud.tag(action.volume_id, action.key, action.value)
        case AnnounceAddresses():
            writers.cloud.announce()
        case FormatVolume():
            writers.disks.format(action)
        case CheckFilesystem():
            writers.disks.check(action)
        case GrowFilesystem():
            writers.disks.grow(action)
        case MountVolume():
            writers.disks.mount(action)
        case MakeDirectory():
            writers.files.make_directory(action)
        case WriteFile():
            writers.files.write(action)
        case MakeLink():
            writers.files.link(action)
        case Unlink():
            writers.files.unlink(action)
        case ChangeRecords():
            assert writers.dns is not None, "records are planned only where there is a DNS provider"
            writers.dns.change(action.records)
        case StartUnit():
            assert writers.services is not None, "units are planned only where there is a service manager"
            writers.services.start(action.unit)
        case RestartUnit():
            assert writers.services is not None, "units are planned only where there is a service manager"
            writers.services.restart(action.unit)
        case _:
            assert_never(action)


def apply(writers: Writers, steps: Sequence[Step], limited: Limited[None]) -> list[Outcome]:
    """Carry out the steps of one pass side by side; of several with one subject the first, and no more.

    One that hangs has failed, with an unknown outcome; until it ends, nothing else is done to its subject.
    """
    first = {_key(step.action): step for step in reversed(steps)}
    ended = limited.run({key: partial(perform, writers, step.action) for key, step in first.items()})
    return [Outcome(step, _error(ended[_key(step.action)])) for step in steps if first[_key(step.action)] is step]


def _key(action: Action) -> str:
    """What only one action at a time may be about: its subject, or all the records of a batch."""
    return action.batch if isinstance(action, ChangeRecords) else action.subject


def _error(future: Future[None]) -> ProviderError | None:
    try:
        future.result()
    except ProviderError as error:
        return error
    return None
