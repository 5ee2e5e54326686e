"""DNS as values: what stands under a name, who wrote it, and what to change.

A name is either *exclusive* (an etcd member's: one owner, replaced whole) or *shared* (the API's: each owner
writes its own record and nobody else's). Names are lower case, without the trailing dot.

A provider only reports what stands there and executes what it is told: `OwnedRecord` and `ForeignRecord` are what
it read, `RecordSet.refusal` says that a name has no place in it, and core/plan_dns.py decides.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from protokube.core.value import dataclass

RecordType = Literal["A", "AAAA"]

OWN = "own-records"
REMOVALS = "removals"
"""The two batches: this node's own records, and what owners that are gone left."""

PLACEHOLDER = "203.0.113.123"
"""What kops puts under names that nobody has filled yet; it serves nobody and is always replaced."""


@dataclass(frozen=True)
class OwnedRecord:
    """Plain addresses under a name. `owner` is the id of the instance that wrote them.

    `owner` is None where nothing tells who wrote: always in a hosts file; on a server these are somebody else's
    addresses under a shared name, and under an exclusive name what the next holder of the member replaces.
    """

    type: RecordType
    values: tuple[str, ...]
    ttl: int
    owner: str | None


@dataclass(frozen=True)
class ForeignRecord:
    """Something under a name that is not ours: an alias, a CNAME, a shared record of another controller.

    `values` are for people and for recognising placeholders. `blocks`: no record of ours can stand beside it.
    `on_sign`: it stands where the owner of an exclusive name is noted; a shared name has no use for that place.
    """

    type: str
    values: tuple[str, ...]
    why: str
    blocks: bool = True
    on_sign: bool = False


@dataclass(frozen=True)
class RecordSet:
    """Everything that stands under one name and concerns addresses.

    `coexists`: a record of ours can be added beside addresses without an owner (RFC 2136 can, Route 53 can't).
    `refusal` is (rule, evidence) when the provider has no place for the name: no zone, or two.
    """

    name: str
    owned: tuple[OwnedRecord, ...] = ()
    foreign: tuple[ForeignRecord, ...] = ()
    coexists: bool = False
    refusal: tuple[str, str] | None = None


class ChangeKind(StrEnum):
    """What a change does to one owner's record under a name."""

    UPSERT = "upsert"
    DELETE = "delete"


@dataclass(frozen=True)
class RecordChange:
    """Put or remove one owner's record of one type under a name.

    `shared` tells how the name is kept: an upsert of an exclusive name replaces all plain addresses of that type,
    one of a shared name only the owner's. `before` are the values that stood there, for people; a delete takes away
    nothing else. `adopts` are other people's records that are exchanged in the same batch; a change is idempotent,
    so a record that is gone by then is none to exchange.
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
        whose = f" ({self.owner})" if self.shared else ""
        instead = "".join(f", instead of {one.type} {', '.join(one.values)}" for one in self.adopts)
        return f"{self.name} {self.type}{whose}: {was} → {now}{instead}"
