"""The audit: lines that hold on to one another by hashes, so that none is changed or removed unseen.

A line is JSON; `hash` is the SHA-256 of the line before's hash and this line without `hash`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import msgspec
from msgspec import Struct

from protokube.core.model import Fault

NOTHING = "0" * 64
"""The hash before the first line."""


class Head(Struct, frozen=True):
    """The end of an audit: how many lines, and the last one's hash."""

    n: int = 0
    hash: str = NOTHING


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """What is recorded: when (seconds since the epoch), who, what, and of which command or node."""

    n: int
    at: float
    who: str
    what: str
    id: str
    prev: str


class Line(Entry, frozen=True, forbid_unknown_fields=True):
    """An entry with its hash."""

    hash: str


def append(head: Head, at: float, who: str, what: str, subject: str) -> tuple[bytes, Head]:
    """The next line (without a line end), and the head after it."""
    entry = Entry(head.n + 1, at, who, what, subject, head.hash)
    made = Line(entry.n, at, who, what, subject, head.hash, _hash(entry))
    return msgspec.json.encode(made), Head(made.n, made.hash)


def verify(lines: Iterable[bytes], head: Head = Head()) -> Head | Fault:  # noqa: B008 - frozen
    """Read lines that follow `head`. The first one that doesn't fit is the fault."""
    for line in lines:
        place = f"line {head.n + 1}"
        try:
            read = msgspec.json.decode(line, type=Line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return Fault(place, f"it can't be read: {error}")
        if read.n != head.n + 1:
            return Fault(place, f"number {head.n + 1} was expected, got {read.n}: lines are missing or twice there")
        if read.prev != head.hash:
            return Fault(place, "it doesn't follow the line before: that one was changed, or this one moved here")
        entry = Entry(read.n, read.at, read.who, read.what, read.id, read.prev)
        # The bytes count, not what they mean: the same entry spelled otherwise is another line.
        if _hash(entry) != read.hash or msgspec.json.encode(read) != line:
            return Fault(place, "its hash doesn't fit: it was changed")
        head = Head(read.n, read.hash)
    return head


def judge_head(kept: Head, said: Head) -> str | None:
    """Why a hub's audit isn't believed, given the head that it said before; None when nothing speaks against it."""
    if said.n < kept.n:
        return f"the hub's audit has {said.n} lines, and had {kept.n}: lines were removed"
    if said.n == kept.n and said.hash != kept.hash:
        return f"line {said.n} of the hub's audit is another one than before: it was rewritten"
    return None


def contradicted(lines: Iterable[bytes], heads: Mapping[str, Head]) -> Iterator[str]:
    """Nodes that heard another line than the audit has at that place. `lines` hold (verify); `heads` by node.

    An audit that was rewritten, and has grown since, holds by itself: only who heard it before can tell.
    """
    wanted = {head.n for head in heads.values()}
    for line in lines:
        read = msgspec.json.decode(line, type=Line)
        if read.n in wanted:
            yield from (node for node, head in heads.items() if head.n == read.n and head.hash != read.hash)


def _hash(entry: Entry) -> str:
    return hashlib.sha256(entry.prev.encode() + msgspec.json.encode(entry)).hexdigest()
