"""Reads all that stands in Redis, and the machine's pressure."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from protokube.kubeleet.connect import Link
from protokube.kubeleet.core.census import Census, SchedulerSeen, WorkerSeen
from protokube.kubeleet.core.foreign import text_of
from protokube.kubeleet.core.pod import MOST_DEAD
from protokube.kubeleet.core.score import Load, read_load, read_pressure
from protokube.kubeleet.keys import Keys

DIGITS = 20
"""More digits than a time, an epoch or a generation ever has."""


async def read_census(link: Link, keys: Keys) -> Census:
    """Take the census, in one script."""
    names = [keys.queue, keys.dead, keys.services, keys.workers, keys.schedulers]
    now, queue, dead, services, workers, schedulers = await link.run("census", names, [keys.prefix, MOST_DEAD])
    return Census(
        int(now),
        queue,
        dead,
        {
            name: request
            for key, request in zip(services[::2], services[1::2], strict=True)
            if (name := text_of(key)) is not None
        },
        {
            name: WorkerSeen(number(beat), load, number(epoch), *lists)
            for w, beat, load, epoch, *lists in workers
            if (name := text_of(w)) is not None
        },
        {
            name: SchedulerSeen(number(beat), placing)
            for s, beat, placing in schedulers
            if (name := text_of(s)) is not None
        },
    )


def number(value: bytes | None) -> int | None:
    """A number as Redis keeps it; what isn't one counts as absent."""
    return int(value) if value is not None and value.isdigit() and len(value) < DIGITS else None


def machine_load(folder: Path) -> Load:
    """The pressure of this machine, from /proc/pressure.

    Without PSI in the kernel the files are absent, and with PSI switched off they can't be read (EOPNOTSUPP).
    """
    try:
        cpu, memory, io = (read_pressure((folder / kind).read_text()) for kind in ("cpu", "memory", "io"))
    except OSError:
        return Load(at=time.time())
    return Load(
        psi=True,
        cpu=cpu.get("some", 0.0),
        memory=memory.get("some", 0.0),
        io=io.get("some", 0.0),
        memory_full=memory.get("full", 0.0),
        at=time.time(),
    )


def shown_workers(census: Census) -> list[dict[str, Any]]:
    """The workers as JSON."""
    return [
        {
            "name": name,
            "silent": silence(census, one.beat),
            "epoch": one.epoch,
            "pending": len(one.pending),
            "starting": len(one.starting),
            "running": len(one.running),
            "load": msgspec.to_builtins(read_load(one.load)),
        }
        for name, one in sorted(census.workers.items())
    ]


def silence(census: Census, beat: int | None) -> int | None:
    """Seconds since a heartbeat, by Redis's clock; None where there was none."""
    return None if beat is None else census.time - beat
