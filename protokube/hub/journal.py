"""A node's record of commands and their verdicts. A verdict is on the disk before the hub hears it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from protokube.agent.files import append, sync_directory, write_atomically
from protokube.errors import ProviderError, explain
from protokube.hub.core.course import forgettable
from protokube.hub.core.messages import Event


class Taken(Struct, frozen=True):
    """A command as it came. `digest` tells its body from another with the same id; `at`: seconds since the epoch.

    A refused one has its verb alone: its body is never asked for again.
    """

    id: str
    digest: str
    verb: str
    body: str
    sent_by: str
    signer: str
    at: float


class Record(Struct):
    """A command and its verdicts. Output isn't kept: it is the hub's, once it has it."""

    taken: Taken
    events: list[Event] = []

    def ended(self) -> bool:
        """Whether its last verdict was given."""
        return any(event.kind in ("refused", "done") for event in self.events)


class _Line(Struct, omit_defaults=True):
    taken: Taken | None = None
    event: Event | None = None


class Journal:
    """The records of one file. `clock`: seconds since the epoch."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self.records: dict[str, Record] = {}

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
        ages = [self._clock() - record.taken.at for record in self.records.values()]
        for name in list(self.records)[: forgettable(ages)]:
            del self.records[name]
        lines = [_Line(taken=record.taken) for record in self.records.values()]
        lines += [_Line(event=event) for record in self.records.values() for event in record.events]
        with explain(f"write {self._path}"):
            write_atomically(self._path, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
            sync_directory(self._path.parent)

    def last(self, count: int) -> list[str]:
        """The latest commands, such as `sync: ok`, newest first."""
        return [_spelled(record) for record in list(self.records.values())[: -count - 1 : -1]]

    def take(self, taken: Taken, verdict: Event) -> None:
        """Keep a command with its first verdict: one line, never one without the other. Raises ProviderError."""
        self._write(_Line(taken, verdict))

    def add(self, event: Event) -> None:
        """Keep a verdict of a command. Raises ProviderError."""
        self._write(_Line(event=event))

    def _write(self, line: _Line) -> None:
        with explain(f"write {self._path}"):
            opened = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                append(opened, msgspec.json.encode(line) + b"\n", os.fstat(opened).st_size)
            finally:
                os.close(opened)
        self._take_in(line)

    def _take_in(self, line: _Line) -> None:
        if line.taken is not None:
            self.records[line.taken.id] = Record(line.taken, [])
        if line.event is not None:
            self.records[line.event.id].events.append(line.event)


def _spelled(record: Record) -> str:
    end = record.events[-1] if record.events else None
    said = "taken" if end is None else str(end.data.get("outcome", end.kind))
    return f"{record.taken.verb}: {said}"
