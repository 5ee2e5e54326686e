"""What the hub keeps, in SQLite: tokens, members, commands and their events. Values are JSON of the core's own.

Other processes (`protokube-hub token`, `node`) write it too; `changed` tells the server of that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from protokube.core.model import MIB
from protokube.errors import ProviderError
from protokube.hub.core.course import ENDED, Course
from protokube.hub.core.membership import Member
from protokube.hub.core.messages import Event
from protokube.hub.core.rounds import Strategy
from protokube.hub.core.tokens import KeptToken

QUOTA = 64 * MIB
"""Bytes of events that are kept of one node."""
ROOM = QUOTA // 2
"""Bytes that are free for a node's next command, if older ones have ended."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (id TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS members (node TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS commands
    (id TEXT PRIMARY KEY, deadline REAL NOT NULL, open INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS courses
    (command TEXT, node TEXT, ended INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (command, node)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS operators (name TEXT PRIMARY KEY, serial TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events
    (command TEXT, node TEXT, seq INTEGER, value BLOB NOT NULL, PRIMARY KEY (command, node, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS turns (nodes TEXT PRIMARY KEY, last TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS open_commands ON commands (open) WHERE open;
CREATE INDEX IF NOT EXISTS open_courses ON courses (node) WHERE NOT ended;
CREATE INDEX IF NOT EXISTS events_of_node ON events (node);
"""
T = TypeVar("T")


class Kept(Struct, frozen=True):
    """A command as an operator sent it. `body` is the text that may be signed."""

    id: str
    body: str
    nodes: tuple[str, ...]
    verb: str
    deadline: float
    strategy: Strategy
    sent_by: str
    at: float
    key: str | None = None
    sig: str | None = None


class Store:
    """The database of one file. Every method that writes is one transaction, or part of `transaction`."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
            path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")  # a used token must stay used, whatever happens
            self._db.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise ProviderError(f"{path}: {error}; is it the hub's database, and on a disk with room?") from error
        self._version = self._data_version()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and nobody else in between."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:  # whatever ends the block undoes it; raised again
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def changed(self) -> bool:
        """Whether another process has written since the last call."""
        before, self._version = self._version, self._data_version()
        return before != self._version

    # --- identity ---

    def token(self, name: str) -> KeptToken | None:
        """A token by its id."""
        return self._one("SELECT value FROM tokens WHERE id = ?", (name,), KeptToken)

    def put_token(self, token: KeptToken) -> None:
        """Keep a token."""
        self._db.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?)", (token.id, msgspec.json.encode(token)))

    def member(self, node: str) -> Member | None:
        """A node by its name."""
        return self._one("SELECT value FROM members WHERE node = ?", (node,), Member)

    def members(self) -> list[Member]:
        """Every node, by name."""
        rows = self._db.execute("SELECT value FROM members ORDER BY node")
        return [msgspec.json.decode(row[0], type=Member) for row in rows]

    def put_member(self, member: Member) -> None:
        """Keep a node."""
        self._db.execute("INSERT OR REPLACE INTO members VALUES (?, ?)", (member.node, msgspec.json.encode(member)))

    def operator(self, name: str) -> str | None:
        """The serial of an operator's certificate that is in force."""
        row = self._db.execute("SELECT serial FROM operators WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def put_operator(self, name: str, serial: str | None) -> None:
        """Put an operator's certificate in force, or (None) take the one that is out of force."""
        if serial is None:
            self._db.execute("DELETE FROM operators WHERE name = ?", (name,))
        else:
            self._db.execute("INSERT OR REPLACE INTO operators VALUES (?, ?)", (name, serial))

    # --- commands ---

    def command(self, name: str) -> Kept | None:
        """A command by its id."""
        return self._one("SELECT value FROM commands WHERE id = ?", (name,), Kept)

    def commands(self, limit: int = 100) -> list[Kept]:
        """The latest commands."""
        rows = self._db.execute("SELECT value FROM commands ORDER BY deadline DESC LIMIT ?", (limit,))
        return [msgspec.json.decode(row[0], type=Kept) for row in rows]

    def open_commands(self) -> list[Kept]:
        """Commands that haven't ended at every node."""
        return [
            msgspec.json.decode(row[0], type=Kept)
            for row in self._db.execute("SELECT value FROM commands WHERE open")
        ]

    def add_command(self, kept: Kept) -> None:
        """Keep a command, queued for each of its nodes. Raises sqlite3.IntegrityError for an id that is there."""
        with self.transaction():
            row = (kept.id, kept.deadline, 1, msgspec.json.encode(kept))
            self._db.execute("INSERT INTO commands VALUES (?, ?, ?, ?)", row)
            for node in kept.nodes:
                self.put_course(kept.id, node, Course())

    def end_command(self, name: str) -> None:
        """Nothing more is expected of a command."""
        self._db.execute("UPDATE commands SET open = 0 WHERE id = ?", (name,))

    def courses(self, command: str) -> dict[str, Course]:
        """How far a command is, by node."""
        rows = self._db.execute("SELECT node, value FROM courses WHERE command = ? ORDER BY node", (command,))
        return {node: msgspec.json.decode(value, type=Course) for node, value in rows}

    def course(self, command: str, node: str) -> Course | None:
        """How far a command is at one node."""
        return self._one("SELECT value FROM courses WHERE command = ? AND node = ?", (command, node), Course)

    def put_course(self, command: str, node: str, course: Course) -> None:
        """Keep how far a command is at one node."""
        row = (command, node, course.stage in ENDED, msgspec.json.encode(course))
        self._db.execute("INSERT OR REPLACE INTO courses VALUES (?, ?, ?, ?)", row)

    def unfinished(self, node: str) -> dict[str, Course]:
        """Commands of a node that it hasn't told the end of, those that are long over included."""
        rows = self._db.execute("SELECT command, value FROM courses WHERE node = ? AND NOT ended", (node,))
        return {command: msgspec.json.decode(value, type=Course) for command, value in rows}

    def add_event(self, node: str, event: Event) -> int:
        """Keep an event of a command; its bytes. Raises sqlite3.IntegrityError for one that is there."""
        value = msgspec.json.encode(event)
        self._db.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (event.id, node, event.seq, value))
        return len(value)

    def forget_events(self, node: str, size: int) -> int:
        """Forget what a node said of its oldest commands that have ended, until it fits in `size`; the bytes left."""
        left = self.used(node)
        ended = self._db.execute(
            "SELECT DISTINCT id, deadline FROM events JOIN courses USING (command, node)"
            " JOIN commands ON id = command WHERE node = ? AND ended ORDER BY deadline",
            (node,),
        )
        for command, _deadline in ended.fetchall():
            if left <= size:
                break
            place = (command, node)
            (freed,) = self._db.execute(
                "SELECT coalesce(sum(length(value)), 0) FROM events WHERE command = ? AND node = ?", place
            ).fetchone()
            self._db.execute("DELETE FROM events WHERE command = ? AND node = ?", place)
            left -= freed
        return left

    def forget_old_events(self, before: float) -> None:
        """Forget what was said of commands whose deadline is older than this."""
        self._db.execute(
            "DELETE FROM events WHERE command IN (SELECT id FROM commands WHERE deadline < ?)", (before,)
        )

    def events(self, command: str, node: str, after: int = 0, limit: int = -1) -> Sequence[Event]:
        """A command's events of one node, in order; at most `limit` of them, -1 for all."""
        query = "SELECT value FROM events WHERE command = ? AND node = ? AND seq > ? ORDER BY seq LIMIT ?"
        rows = self._db.execute(query, (command, node, after, limit))
        return [msgspec.json.decode(row[0], type=Event) for row in rows]

    def used(self, node: str) -> int:
        """Bytes of events of a node."""
        (size,) = self._db.execute(
            "SELECT coalesce(sum(length(value)), 0) FROM events WHERE node = ?", (node,)
        ).fetchone()
        return int(size)

    def last_turn(self, nodes: Sequence[str]) -> str | None:
        """The node of a set that had the last turn."""
        row = self._db.execute("SELECT last FROM turns WHERE nodes = ?", (",".join(sorted(nodes)),)).fetchone()
        return None if row is None else str(row[0])

    def put_turn(self, nodes: Sequence[str], last: str) -> None:
        """Keep which node of a set had the last turn."""
        self._db.execute("INSERT OR REPLACE INTO turns VALUES (?, ?)", (",".join(sorted(nodes)), last))

    def _one(self, query: str, arguments: tuple[object, ...], kind: type[T]) -> T | None:
        row = self._db.execute(query, arguments).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=kind)

    def _data_version(self) -> int:
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        return int(version)
