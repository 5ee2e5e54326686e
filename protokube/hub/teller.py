"""Events of a node's commands: numbered, kept where they are verdicts, and told until the hub has them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from protokube.hub.core.backlog import Backlog
from protokube.hub.core.checks import Refusal
from protokube.hub.core.messages import Event, EventKind, chunks
from protokube.hub.journal import Journal, Record, Taken

_VERDICTS = ("started", "done")
"""Kept when they come. The first verdict, accepted or refused, is kept with its command."""

log = logging.getLogger(__name__)


class Teller:
    """Tells the hub, while there is a link. `clock`: seconds since the epoch."""

    def __init__(self, journal: Journal, clock: Callable[[], float]) -> None:
        self._journal = journal
        self._clock = clock
        self._backlogs: dict[str, Backlog] = {}
        self._last: dict[str, int] = {}
        self._send: Callable[[Event], None] | None = None

    # --- the link ---

    def linked(self, seen: Mapping[str, int], send: Callable[[Event], None], running: Collection[str]) -> None:
        """A link is up: what it hasn't seen is sent. Of what it doesn't ask for, and doesn't run, it has the end."""
        self._send = send
        for name in list(self._backlogs):
            if name not in seen and name not in running:
                del self._backlogs[name]
                continue
            for event in self._backlogs[name].after(seen.get(name, 0)):
                send(event)

    def unlinked(self) -> None:
        """The link is gone: events wait for the next one."""
        self._send = None

    def acknowledged(self, command: str, seq: int, *, runs: bool) -> None:
        """The hub has a command's events up to this one."""
        backlog = self._backlogs.get(command)
        if backlog is None:
            return
        backlog.acknowledge(seq)
        if not runs and not backlog.after(0):
            del self._backlogs[command]

    def unheard(self) -> int:
        """Bytes of events that the hub hasn't acknowledged."""
        return sum(backlog.size for backlog in self._backlogs.values())

    # --- records ---

    def restore(self, record: Record, seen: Mapping[str, int]) -> None:
        """After a start: go on where a command's record ends. `seen`: what the hub asks for."""
        name = record.taken.id
        self._last[name] = max([seen.get(name, 0), *(event.seq for event in record.events)])
        if name in seen or not record.ended():
            self._backlogs[name] = Backlog(record.events)

    def repeat(self, record: Record) -> None:
        """Answer a command that came once more; what is on its way already isn't said twice."""
        if self._send is not None and record.taken.id not in self._backlogs:
            for event in record.events:
                self._send(event)

    def forget(self, commands: Collection[str]) -> None:
        """These have no record any more."""
        for name in commands:
            self._last.pop(name, None)

    # --- telling ---

    def first(self, taken: Taken, word: EventKind, data: Mapping[str, Any]) -> None:
        """Keep a command with its first verdict, and tell that. Raises ProviderError."""
        verdict = Event(taken.id, 1, word, self._clock(), dict(data))
        self._journal.take(taken, verdict)
        self._tell(verdict)

    def say(self, command: str, kind: EventKind, data: Mapping[str, Any]) -> None:
        """Tell of a command. Raises ProviderError for a verdict that can't be kept."""
        event = Event(command, self._last.get(command, 0) + 1, kind, self._clock(), dict(data))
        if kind in _VERDICTS:
            self._journal.add(event)
        self._tell(event)

    def outside(self, command: str, refusal: Refusal) -> None:
        """Refuse a frame that is no part of a command's record."""
        log.warning("the hub sent what isn't taken (%s): %s", refusal.check, "; ".join(map(str, refusal.faults)))
        if self._send is not None:
            self._send(Event(command, 0, "refused", self._clock(), refused(refusal)))

    def _tell(self, event: Event) -> None:
        """Tell the hub what is on the disk, where it has to be."""
        self._last[event.id] = event.seq
        self._backlogs.setdefault(event.id, Backlog()).add(event)
        if self._send is not None:
            self._send(event)


class Saying:
    """What one command that runs says."""

    def __init__(self, teller: Teller, command: str) -> None:
        self._teller = teller
        self._command = command

    def progress(self, text: str) -> None:
        """Pass one line on."""
        self._teller.say(self._command, "progress", {"text": text[:4000]})

    def output(self, text: str, stream: str = "log") -> None:
        """Pass output on, in pieces that fit."""
        for piece in chunks(text):
            self._teller.say(self._command, "log", {"stream": stream, "text": piece})


def refused(refusal: Refusal) -> dict[str, Any]:
    """A refusal as an event's data."""
    return {"check": refusal.check, "faults": [str(fault)[:1000] for fault in refusal.faults[:32]]}
