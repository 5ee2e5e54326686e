"""A command's events that the hub hasn't acknowledged, within 4 MiB: output goes first, a verdict never."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from protokube.core.model import MIB
from protokube.hub.core.messages import Event, encode

LARGEST = 4 * MIB
_OUTPUT = ("progress", "log")


class Backlog:
    """The events of one command that have to be sent until they are acknowledged, in order."""

    def __init__(self, events: Iterable[Event] = (), largest: int = LARGEST) -> None:
        self._largest = largest
        self._events: list[Event] = []
        self._sizes: list[int] = []
        self._size = 0
        for event in events:
            self.add(event)

    @property
    def size(self) -> int:
        """Bytes of its events."""
        return self._size

    def add(self, event: Event) -> None:
        """Keep one more event; the oldest output makes room."""
        self._put(len(self._events), event)
        while self._size > self._largest:
            place = next((n for n, one in enumerate(self._events) if _is_output(one)), None)
            if place is None:
                return
            self._drop(place)

    def acknowledge(self, seq: int) -> None:
        """Forget the events up to this one."""
        while self._events and self._events[0].seq <= seq:
            self._take(0)

    def after(self, seq: int) -> Sequence[Event]:
        """The events behind one, for a new link."""
        return [event for event in self._events if event.seq > seq]

    def _drop(self, place: int) -> None:
        """Take out one event of output, and count it in a note where it was."""
        event = self._take(place)
        dropped = 1
        if place > 0 and (before := _dropped(self._events[place - 1])):
            self._take(place - 1)
            place, dropped = place - 1, before + 1
        # The note bears the number of the last event that it stands for: numbers only ever rise.
        note = Event(event.id, event.seq, "progress", event.at, {"dropped": dropped})
        self._put(place, note)

    def _put(self, place: int, event: Event) -> None:
        size = len(encode(event))
        self._events.insert(place, event)
        self._sizes.insert(place, size)
        self._size += size

    def _take(self, place: int) -> Event:
        self._size -= self._sizes.pop(place)
        return self._events.pop(place)


def _dropped(event: Event) -> int:
    count = event.data.get("dropped") if event.kind == "progress" else None
    return count if isinstance(count, int) else 0


def _is_output(event: Event) -> bool:
    return event.kind in _OUTPUT and not _dropped(event)
