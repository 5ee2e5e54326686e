"""DNS as values: what stands under a name, who wrote it, and what to change.

A name is either *exclusive* (an etcd member's: one owner, replaced whole) or *shared* (the API's: each owner
writes its own record and nobody else's). Names are lower case, without the trailing dot.

A provider only reports what stands there and executes what it is told: `OwnedRecord` and `ForeignRecord` are what
it read, `RecordSet.refusal` says that a name has no place in it, and core/plan_dns.py decides.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from msgspec import Struct

from protokube.core.model import Unknown
from protokube.core.volumes.model import PeerState

RecordType = Literal["A", "AAAA"]

OWN = "own-records"
REMOVALS = "removals"
"""The two batches: this node's own records, and what owners that are gone left."""

TTL = 60
"""Seconds."""

PLACEHOLDER = "203.0.113.123"
"""What kops puts under names that nobody has filled yet; it serves nobody and is always replaced."""


class OwnedRecord(Struct, frozen=True):
    """Plain addresses under a name. `owner` is the id of the instance that wrote them.

    `owner` is None where nothing tells who wrote: always in a hosts file; on a server these are somebody else's
    addresses under a shared name, and under an exclusive name what the next holder of the member replaces.
    """

    type: RecordType
    values: tuple[str, ...]
    ttl: int
    owner: str | None


class ForeignRecord(Struct, frozen=True):
    """Something under a name that is not ours: an alias, a CNAME, a shared record of another controller.

    `values` are for people and for recognising placeholders. `blocks`: no record of ours can stand beside it.
    `on_sign`: it stands where the owner of an exclusive name is noted; a shared name has no use for that place.
    """

    type: str
    values: tuple[str, ...]
    why: str
    blocks: bool = True
    on_sign: bool = False


class RecordSet(Struct, frozen=True):
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


class RecordChange(Struct, frozen=True):
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


class Holding(Struct, frozen=True):
    """A machine and the etcd members that live there, as pairs of (etcd cluster's key, member)."""

    instance: str
    internal: tuple[str, ...]
    external: tuple[str, ...]
    members: frozenset[tuple[str, str]]
    state: PeerState = PeerState.RUNNING


class DesiredRecord(Struct, frozen=True):
    """The addresses of one type that should stand under a name, written by `owner`."""

    name: str
    type: RecordType
    values: tuple[str, ...]
    shared: bool
    owner: str
    ttl: int = TTL


class DesiredRecords(Struct, frozen=True):
    """What this node keeps.

    `records` are its own, one per name and type. `withdrawn` are shared names in which it has no place (any more).
    `masters` are the records that all living masters keep under the shared names, this one's included; it is
    Unknown while the peers can't be seen. `private`: the provider holds this node's view alone.
    """

    owner: str
    private: bool = False
    records: tuple[DesiredRecord, ...] = ()
    withdrawn: frozenset[str] = frozenset()
    masters: tuple[DesiredRecord, ...] | Unknown = ()

    @property
    def names(self) -> frozenset[str]:
        """The names that have to be read."""
        return frozenset(record.name for record in self.records) | self.withdrawn
