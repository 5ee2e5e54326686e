"""DNS as values: the records under a name, their owners, and the changes to them.

A name is *exclusive* or *shared*. An etcd member's name is exclusive: it has one owner and is replaced whole.
The API's names are shared: each owner writes its own record and no other. Names are lower case, without the trailing
dot.

A provider only reads and executes. It reports `OwnedRecord` and `UnmanagedRecord`, and a `RecordSet.refusal` for a
name that none of its zones can take. core/dns/changes.py decides.
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
"""The two batches: this node's own records, and the removal of records that terminated owners left."""

TTL = 60
"""Seconds."""

PLACEHOLDERS: Mapping[RecordType, str] = {"A": "203.0.113.123", "AAAA": "fd00:dead:add::"}
"""The addresses that kops gives to names before a node fills them. They serve no client and are replaced."""


class OwnedRecord(Struct, frozen=True):
    """Plain addresses under a name. `owner` is the id of the instance that wrote them.

    `owner` is None without an owner record, so always in a hosts file. On a server, such addresses under a shared
    name are unmanaged; under an exclusive name the next holder of the member replaces them.
    """

    type: RecordType
    values: tuple[str, ...]
    ttl: int
    owner: str | None


class UnmanagedRecord(Struct, frozen=True):
    """A record under a name that protokube did not write: an alias, a CNAME, a shared record of another controller.

    `values` are for people and for recognising placeholders. `blocks`: no record of ours can stand beside it.
    `at_owner_name`: it stands where the owner record of an exclusive name belongs. Shared names need no owner record.
    """

    type: str
    values: tuple[str, ...]
    why: str
    blocks: bool = True
    at_owner_name: bool = False


class RecordSet(Struct, frozen=True):
    """All records under one name that concern addresses.

    `coexists`: a record of ours can be added beside addresses without an owner (RFC 2136 can, Route 53 can't).
    `refusal` is (rule, evidence) when no zone, or more than one, fits the name.
    """

    name: str
    owned: tuple[OwnedRecord, ...] = ()
    unmanaged: tuple[UnmanagedRecord, ...] = ()
    coexists: bool = False
    refusal: tuple[str, str] | None = None


class ChangeKind(StrEnum):
    """The effect of a change on one owner's record under a name."""

    UPSERT = "upsert"
    DELETE = "delete"


class RecordChange(Struct, frozen=True):
    """Put or remove one owner's record of one type under a name.

    An upsert of an exclusive name replaces all plain addresses of that type; one of a `shared` name only the owner's.
    `before` are the values that were read; a delete removes no others. `adopts` are unmanaged records that the same
    batch replaces. A change is idempotent: an adopted record that has vanished meanwhile is no error.
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
        """One line for people: the values before and after."""
        was = ", ".join(self.before) or "nothing"
        now = ", ".join(self.values) if self.kind is ChangeKind.UPSERT else "nothing"
        whose = f" ({self.owner})" if self.shared else ""
        instead = "".join(f", instead of {one.type} {', '.join(one.values)}" for one in self.adopts)
        return f"{self.name} {self.type}{whose}: {was} → {now}{instead}"


class MemberNode(Struct, frozen=True):
    """A node and the etcd members on its volumes, as pairs of (etcd cluster's key, member)."""

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
    """The records that this node keeps.

    `records` are its own, one per name and type. `withdrawn` are shared names that it doesn't serve.
    `control_plane` are the records of all running control-plane nodes under the shared names, this one's included.
    It is Unknown while the peers are. `private`: only this node reads the provider.
    """

    owner: str
    private: bool = False
    records: tuple[WantedRecord, ...] = ()
    withdrawn: frozenset[str] = frozenset()
    control_plane: tuple[WantedRecord, ...] | Unknown = ()

    @property
    def names(self) -> frozenset[str]:
        """The names to read."""
        return frozenset(record.name for record in self.records) | self.withdrawn


class DnsSettings(Struct, frozen=True):
    """The operator's settings for names.

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
    """The facts that names are judged by: the cloud's answer, and the records under the names.

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
    """The names to read, and the changes to their records.

    `names` are the ones to read. `left_over`: how many records of terminated owners are left for later reconciles.
    """

    names: frozenset[str] = frozenset()
    batches: tuple[RecordBatch, ...] = ()
    left_over: int = 0
    findings: Findings = field(default_factory=Findings)


def names_with_addresses(records: Mapping[str, RecordSet] | Unknown) -> frozenset[str] | Unknown:
    """The names that have addresses, from any writer. A record in the place of an owner record is no address."""
    if isinstance(records, Unknown):
        return records
    return frozenset(
        name
        for name, current in records.items()
        if current.owned or any(not one.at_owner_name for one in current.unmanaged)
    )
