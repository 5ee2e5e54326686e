"""A node's record of commands and their verdicts. A verdict is on the disk before the hub hears it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from protokube.agent.files import append, sync_directory, write_atomically
from protokube.errors import ProviderError, explain
from protokube.hub.core.course import Outcome
from protokube.hub.core.keeping import Entry, making_room, outlived, too_many
from protokube.hub.core.messages import Event

PAUSE = 60.0
"""Seconds between two looks for what may be forgotten."""


class Taken(Struct, frozen=True):
    """A command as it came. `digest` tells its body from another with the same id; `at`: seconds since the epoch.

    One that has ended has its verb alone: its body is never asked for again. `deadline`: by the hub's clock, 0 of one
    that was refused.
    """

    id: str
    digest: str
    verb: str
    body: str
    sent_by: str
    signer: str
    at: float
    deadline: float = 0.0


class Record(Struct):
    """A command and its verdicts. Output isn't kept: it is the hub's, once it has it."""

    taken: Taken
    events: list[Event] = []

    def ended(self) -> bool:
        """Whether its last verdict was given."""
        return any(event.kind in ("refused", "done") for event in self.events)

    def unknown(self) -> bool:
        """Whether nobody knows what came of it."""
        return any(event.kind == "done" and event.data.get("outcome") == Outcome.UNKNOWN for event in self.events)

    def lines(self) -> bytes:
        """As the file has it."""
        lines = [_Line(taken=self.taken), *(_Line(event=event) for event in self.events)]
        return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


class _Line(Struct, omit_defaults=True):
    taken: Taken | None = None
    event: Event | None = None


class Journal:
    """The records of one file. `clock`: seconds since the epoch. `size`: the file's, in bytes."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self.records: dict[str, Record] = {}
        self.size = 0
        self._looked = -math.inf

    def load(self) -> None:
        """Read the file; a line that was cut off is dropped, old records are forgotten. Raises ProviderError."""
        with explain(f"read {self._path}"):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            data = self._path.read_bytes() if self._path.exists() else b""
        for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
            try:
                self._take_in(msgspec.json.decode(line, type=_Line))
            except (msgspec.MsgspecError, UnicodeDecodeError, KeyError) as error:
                raise ProviderError(
                    f"{self._path}: line {number} can't be read: {error}; without it a command might be run twice: "
                    "see which ones ran, then move the file away"
                ) from error
        self._forget(outlived(self._entries()))

    def full(self) -> bool:
        """Whether nothing more has room."""
        return too_many(len(self.records), self.size)

    def make_room(self, now: float) -> Collection[str]:
        """Forget what may be forgotten, by the hub's time; the ids. Raises ProviderError.

        At most once in a while: it reads and writes all of it, and a hub that fills it wouldn't let the node do more.
        """
        if abs(self._clock() - self._looked) < PAUSE:
            return ()
        self._looked = self._clock()
        return self._forget(making_room(self._entries(), now))

    def last(self, count: int) -> list[str]:
        """The latest commands, such as `sync: ok`, newest first."""
        return [_spelled(record) for record in list(self.records.values())[: -count - 1 : -1]]

    def take(self, taken: Taken, verdict: Event) -> None:
        """Keep a command with its first verdict: one line, never one without the other. Raises ProviderError."""
        self._write(_Line(taken, verdict))

    def add(self, event: Event) -> None:
        """Keep a verdict of a command. Raises ProviderError."""
        self._write(_Line(event=event))

    def _entries(self) -> list[Entry]:
        now = self._clock()
        return [
            Entry(now - one.taken.at, len(one.lines()), one.ended(), one.unknown(), one.taken.deadline)
            for one in self.records.values()
        ]

    def _forget(self, places: Collection[int]) -> list[str]:
        """Write the file without these records, and then forget them."""
        names = [name for place, name in enumerate(self.records) if place in places]
        kept = {name: record for place, (name, record) in enumerate(self.records.items()) if place not in places}
        data = b"".join(record.lines() for record in kept.values())
        with explain(f"write {self._path}"):
            write_atomically(self._path, data)
            sync_directory(self._path.parent)
        self.records, self.size = kept, len(data)
        return names

    def _write(self, line: _Line) -> None:
        with explain(f"write {self._path}"):
            opened, data = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC), msgspec.json.encode(line) + b"\n"
            try:
                size = os.fstat(opened).st_size
                append(opened, data, size)
                self.size = size + len(data)
            finally:
                os.close(opened)
        self._take_in(line)

    def _take_in(self, line: _Line) -> None:
        if line.taken is not None:
            self.records[line.taken.id] = Record(line.taken, [])
        if line.event is not None:
            record = self.records[line.event.id]
            record.events.append(line.event)
            if record.ended():
                record.taken = structs.replace(record.taken, body="")


def _spelled(record: Record) -> str:
    end = record.events[-1] if record.events else None
    said = "taken" if end is None else str(end.data.get("outcome", end.kind))
    return f"{record.taken.verb}: {said}"
