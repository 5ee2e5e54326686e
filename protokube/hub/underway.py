"""The commands that are under way, in memory: the store has the same, but asking it for each event takes too long.

What changed is remembered, so that an event costs the same on a hub of ten nodes and of a thousand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from msgspec import Struct

from protokube.hub.core.course import ENDED, Course, Stage
from protokube.hub.core.verbs import VERBS
from protokube.hub.store import Kept


class _Open(Struct):
    """A command with its courses by node, and how many of them wait and haven't ended."""

    kept: Kept
    courses: dict[str, Course]
    queued: int = 0
    left: int = 0


class UnderWay:
    """Open commands. A command is looked at again (`next`) after something that may let it go on."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        self._at: defaultdict[str, dict[str, None]] = defaultdict(dict)
        """Open commands by node, in the order in which they came."""
        self._changing: defaultdict[str, set[str]] = defaultdict(set)
        """Those that were sent to a node and change it."""
        self._again: dict[str, None] = {}
        """Commands to look at, in order."""

    def add(self, kept: Kept, courses: Mapping[str, Course]) -> None:
        """Take in a command that has just come, or that was open when the hub was started."""
        self._open[kept.id] = _Open(kept, {})
        for node, course in courses.items():
            self.put(kept.id, node, course)
        self._again[kept.id] = None

    def get(self, command: str) -> Kept | None:
        """An open command."""
        found = self._open.get(command)
        return None if found is None else found.kept

    def courses(self, command: str) -> Mapping[str, Course]:
        """How far an open command is, by node."""
        return self._open[command].courses

    def course(self, command: str, node: str) -> Course | None:
        """How far an open command is at one node."""
        found = self._open.get(command)
        return None if found is None else found.courses.get(node)

    def at(self, node: str) -> Iterator[tuple[Kept, Course]]:
        """The open commands of a node."""
        for command in list(self._at[node]):
            found = self._open[command]
            yield found.kept, found.courses[node]

    def put(self, command: str, node: str, course: Course) -> None:
        """A command is further at a node. Nothing for one that isn't open any more."""
        found = self._open.get(command)
        if found is None:
            return
        before = found.courses.get(node)
        found.courses[node] = course
        found.queued += (course.stage is Stage.QUEUED) - (before is not None and before.stage is Stage.QUEUED)
        found.left += (not _over(course)) - (before is not None and not _over(before))
        self._at[node][command] = None
        if before is not None and before.stage is course.stage and before.outcome is course.outcome:
            return
        if VERBS[found.kept.verb].changes and course.stage not in ENDED and course.stage is not Stage.QUEUED:
            self._changing[node].add(command)
        elif command in self._changing[node]:
            self._changing[node].discard(command)
            self.look_again(node)
        self._again[command] = None

    def remove(self, command: str) -> None:
        """A command is over at all of its nodes."""
        for node in self._open.pop(command).courses:
            self._at[node].pop(command, None)
            if command in self._changing[node]:
                self._changing[node].discard(command)
                self.look_again(node)
        self._again.pop(command, None)

    def changing(self, node: str, command: str) -> bool:
        """Whether another command changes a node."""
        return bool(self._changing[node] - {command})

    def look_again(self, node: str) -> None:
        """Something about a node has changed: what waits for it is looked at."""
        for command in self._at[node]:
            if self._open[command].courses[node].stage is Stage.QUEUED:
                self._again[command] = None

    def next(self) -> Kept | None:
        """The next command to look at, None when there is none."""
        while self._again:
            command = next(iter(self._again))
            del self._again[command]
            if command in self._open:
                return self._open[command].kept
        return None

    def every(self) -> list[Kept]:
        """All of them."""
        return [one.kept for one in self._open.values()]

    def past(self, now: float) -> list[Kept]:
        """Commands whose deadline has passed."""
        return [one.kept for one in self._open.values() if now >= one.kept.deadline]

    def waits(self, command: str) -> bool:
        """Whether there are nodes that it wasn't sent to."""
        return self._open[command].queued > 0

    def over(self, command: str) -> bool:
        """Whether it has ended at every node, or is unknown there."""
        return self._open[command].left == 0


def _over(course: Course) -> bool:
    return course.stage in ENDED or course.outcome is not None
