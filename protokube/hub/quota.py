"""What the hub keeps of each node's events: so many bytes, and beyond them only what a command needs."""

from __future__ import annotations

from protokube.hub.core.messages import Event
from protokube.hub.store import QUOTA, ROOM, Store


class Quota:
    """The events of a store, by node."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._used: dict[str, int] = {}
        self._dropped: set[tuple[str, str]] = set()
        """Commands at nodes whose output isn't kept any more, which is noted once."""

    def keep(self, node: str, event: Event, *, needed: bool) -> None:
        """Keep an event. Beyond a node's quota only those that a command needs are; a note tells of the others."""
        size = self._size(node)
        if size > QUOTA and not needed:
            if (event.id, node) in self._dropped:
                return
            self._dropped.add((event.id, node))
            event = Event(event.id, event.seq, "progress", event.at, {"dropped": 1})
        self._used[node] = size + self._store.add_event(node, event)

    def ended(self, command: str, node: str) -> None:
        """A command says nothing more at a node."""
        self._dropped.discard((command, node))

    def make_room(self, node: str) -> None:
        """Before a command is sent: the oldest ended ones make room for what it will say."""
        if self._size(node) > QUOTA - ROOM:
            self._used[node] = self._store.forget_events(node, QUOTA - ROOM)

    def forget_before(self, at: float) -> None:
        """Forget what was said of commands whose deadline was before that."""
        self._store.forget_old_events(at)
        self._used.clear()

    def _size(self, node: str) -> int:
        if node not in self._used:
            self._used[node] = self._store.used(node)
        return self._used[node]
