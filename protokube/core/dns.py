"""DNS as values: what stands under a name, who wrote it, and what to change.

A name is either *exclusive* (an etcd member's: one owner, replaced whole) or *shared* (the API's: each owner
writes its own record and nobody else's). Names are lower case, without the trailing dot.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

RecordType = Literal["A", "AAAA"]


@dataclass(frozen=True)
class OwnedRecord:
    """Addresses under a name that protokube wrote. `owner` is the instance id; None where the server can't tell."""

    type: RecordType
    values: tuple[str, ...]
    ttl: int
    owner: str | None


@dataclass(frozen=True)
class ForeignRecord:
    """Something under a name that is not ours: an alias, a CNAME, a shared record of another controller.

    `values` are for people and for recognising placeholders.
    """

    type: str
    values: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class RecordSet:
    """Everything that stands under one name. `zone` is the zone's id that holds the name."""

    name: str
    zone: str
    owned: tuple[OwnedRecord, ...] = ()
    foreign: tuple[ForeignRecord, ...] = ()


class ChangeKind(StrEnum):
    """What a change does to one owner's record under a name."""

    UPSERT = "upsert"
    DELETE = "delete"


@dataclass(frozen=True)
class RecordChange:
    """Put or remove one owner's record of one type under a name.

    `shared` tells how the name is kept. `before` are the values that stood there (for people and for servers
    that check what they delete). `adopts` are foreign records that are exchanged in the same batch.
    """

    kind: ChangeKind
    name: str
    type: RecordType
    values: tuple[str, ...]
    ttl: int
    owner: str
    shared: bool
    before: tuple[str, ...] = ()
    adopts: tuple[ForeignRecord, ...] = ()

    def describe(self) -> str:
        """One line for people: what stands there now, and what will."""
        was = ", ".join(self.before) or "nothing"
        now = ", ".join(self.values) if self.kind is ChangeKind.UPSERT else "nothing"
        return f"{self.name} {self.type}: {was} → {now}"
