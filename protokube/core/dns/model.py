"""DNS as values: what stands under a name, who wrote it, and what to change.

A name is either *exclusive* (an etcd member's: one owner, replaced whole) or *shared* (the API's: each owner
writes its own record and nobody else's). Names are lower case, without the trailing dot.

A provider only reports what stands there and executes what it is told: `OwnedRecord` and `ForeignRecord` are what
it read, `RecordSet.refusal` says that a name has no place in it, and core/dns/changes.py decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from msgspec import Struct, field

from protokube.core.model import Unknown
from protokube.core.steps import Findings
from protokube.core.volumes.model import CloudSnapshot, PeerState

RecordType = Literal["A", "AAAA"]

OWN = "own-records"
REMOVALS = "removals"
"""The two batches: this node's own records, and what owners that are gone left."""

TTL = 60
"""Seconds."""

PLACEHOLDERS: Mapping[RecordType, str] = {"A": "203.0.113.123", "AAAA": "fd00:dead:add::"}
"""What kops puts under names that no node has filled yet. It serves no client and is always replaced."""


class OwnedRecord(Struct, frozen=True):
    """Plain addresses under a name. `owner` is the id of the instance that wrote them.

    `owner` is None where nothing tells who wrote: always in a hosts file; on a server these are somebody else's
    addresses under a shared name, and under an exclusive name what the next holder of the member replaces.
    """

    type: RecordType
    values: tuple[str, ...]
    ttl: int
    owner: str | None


class UnmanagedRecord(Struct, frozen=True):
    """Something under a name that is not ours: an alias, a CNAME, a shared record of another controller.

    `values` are for people and for recognising placeholders. `blocks`: no record of ours can stand beside it.
    `on_sign`: it stands where the owner of an exclusive name is noted; a shared name has no use for that place.
    """

    type: str
    values: tuple[str, ...]
    why: str
    blocks: bool = True
    at_owner_name: bool = False


class RecordSet(Struct, frozen=True):
    """Everything that stands under one name and concerns addresses.

    `coexists`: a record of ours can be added beside addresses without an owner (RFC 2136 can, Route 53 can't).
    `refusal` is (rule, evidence) when the provider has no place for the name: no zone, or two.
    """

    name: str
    owned: tuple[OwnedRecord, ...] = ()
    unmanaged: tuple[UnmanagedRecord, ...] = ()
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
    adopts: tuple[UnmanagedRecord, ...] = ()

    def describe(self) -> str:
        """One line for people: what stands there now, and what will."""
        was = ", ".join(self.before) or "nothing"
        now = ", ".join(self.values) if self.kind is ChangeKind.UPSERT else "nothing"
        whose = f" ({self.owner})" if self.shared else ""
        instead = "".join(f", instead of {one.type} {', '.join(one.values)}" for one in self.adopts)
        return f"{self.name} {self.type}{whose}: {was} → {now}{instead}"


class MemberNode(Struct, frozen=True):
    """A machine and the etcd members that live there, as pairs of (etcd cluster's key, member)."""

    instance: str
    internal: tuple[str, ...]
    external: tuple[str, ...]
    members: frozenset[tuple[str, str]]
    state: PeerState = PeerState.RUNNING


class WantedRecord(Struct, frozen=True):
    """The addresses of one type that should stand under a name, written by `owner`."""

    name: str
    type: RecordType
    values: tuple[str, ...]
    shared: bool
    owner: str
    ttl: int = TTL


class WantedRecords(Struct, frozen=True):
    """What this node keeps.

    `records` are its own, one per name and type. `withdrawn` are shared names in which it has no place (any more).
    `masters` are the records that all living masters keep under the shared names, this one's included; it is
    Unknown while the peers can't be seen. `private`: the provider holds this node's view alone.
    """

    owner: str
    private: bool = False
    records: tuple[WantedRecord, ...] = ()
    withdrawn: frozenset[str] = frozenset()
    control_plane: tuple[WantedRecord, ...] | Unknown = ()

    @property
    def names(self) -> frozenset[str]:
        """The names that have to be read."""
        return frozenset(record.name for record in self.records) | self.withdrawn


class DnsSettings(Struct, frozen=True):
    """What the operator configured for names.

    `suffix` is the internal names', with its leading dot; None for `.internal.<cluster>`. `adopt`: records that
    others wrote under our names are replaced. `removals` is how many records of terminated owners are removed in a
    reconcile. `private`: names are kept in the node's own hosts file.
    """

    kept: bool = True
    private: bool = True
    suffix: str | None = None
    adopt: bool = False
    removals: int = 2

    def full_suffix(self, cluster_id: str) -> str:
        """The internal names' suffix, with its leading dot."""
        return self.suffix or f".internal.{cluster_id}"


class DnsFacts(Struct, frozen=True):
    """All that names are judged by: who holds which volume, what is mounted here, and what stands under the names.

    `mounts_known`: the mounts of this machine could be read.
    """

    cloud: CloudSnapshot
    records: Mapping[str, RecordSet] | Unknown = {}
    mounts_known: bool = True


class RecordBatch(Struct, frozen=True):
    """Changes that are sent together, and why. `name` is OWN or REMOVALS."""

    name: str
    changes: tuple[RecordChange, ...]
    reason: str


class DnsAssessment(Struct, frozen=True):
    """Which names matter, and what to change under them.

    `names` are the ones to read. `left_over`: how many records of terminated owners are left for later reconciles.
    """

    names: frozenset[str] = frozenset()
    batches: tuple[RecordBatch, ...] = ()
    left_over: int = 0
    findings: Findings = field(default_factory=Findings)


def names_with_addresses(records: Mapping[str, RecordSet] | Unknown) -> frozenset[str] | Unknown:
    """The names under which addresses stand, whoever wrote them. What stands beside a name, where its owner is to be
    noted, is no address."""
    if isinstance(records, Unknown):
        return records
    return frozenset(
        name for name, current in records.items() if current.owned or any(not one.at_owner_name for one in current.unmanaged)
    )
