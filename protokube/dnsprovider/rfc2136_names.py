"""The records under a name on a server with dynamic updates, and the update that changes them. It makes no call.

Addresses are single A and AAAA records. Their owner records are TXT records at `_protokube.<name>`, one for each
instance and address: "protokube" "<instance id>" "A" "10.0.0.1".

Adding needs no condition: no two instances write the same record. An address is removed only on the condition that
these TXT records are unchanged since they were read. So an address stays when another instance adds its owner record
meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rrset
import dns.update
from msgspec import Struct, field

from protokube.core.dns.model import ChangeKind, OwnedRecord, RecordChange, RecordSet, RecordType, UnmanagedRecord
from protokube.core.dns.zones import delegated

OWNER_LABEL = "_protokube"
MARK = b"protokube"
ADDRESS_TYPES: tuple[RecordType, ...] = ("A", "AAAA")


class OwnerRecord(Struct, frozen=True):
    """One TXT record: `owner` wrote `value`."""

    owner: str
    type: str
    value: str

    def rdata(self) -> dns.rdtypes.ANY.TXT.TXT:
        """The record as dnspython has it."""
        strings = [MARK, self.owner.encode(), self.type.encode(), self.value.encode()]
        return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)


class Name(Struct):
    """The server's records of one name. `texts` is the TXT record set beside it, None when there is none.

    `cut` is the record that takes the name out of the zone: its name, type and target.
    """

    addresses: dict[RecordType, tuple[tuple[str, ...], int]] = field(default_factory=dict)
    cname: str | None = None
    texts: dns.rrset.RRset | None = None
    cut: str | None = None

    def values(self, type_: RecordType) -> tuple[str, ...]:
        """The addresses of one type; empty when there are none."""
        return self.addresses.get(type_, ((), 0))[0]

    @property
    def fits(self) -> bool:
        """Whether every address has an owner record, and every owner record its address."""
        recorded = {(one.type, one.value) for one in self.owner_records}
        return recorded == {(type_, value) for type_ in self.addresses for value in self.values(type_)}

    @property
    def owner_records(self) -> list[OwnerRecord]:
        """The owner records among the TXT records, sorted."""
        texts = [tuple(part.decode(errors="replace") for part in rdata.strings) for rdata in self.texts or ()]
        return sorted(
            (OwnerRecord(*text[1:]) for text in texts if len(text) == 4 and text[0] == MARK.decode()),
            key=lambda one: (one.owner, one.type, one.value),
        )


class Edit:
    """Builds the part of an update that concerns one name, from its current records."""

    def __init__(self, update: dns.update.UpdateMessage, name: str, current: Name) -> None:
        self._update = update
        self._name = dns.name.from_text(name)
        self._beside = dns.name.from_text(f"{OWNER_LABEL}.{name}")
        self._current = current
        self._owners = current.owner_records
        self._guarded = False

    def apply(self, changes: Sequence[RecordChange]) -> None:
        """Take in all changes of this name."""
        if any(one.type == "CNAME" for change in changes for one in change.adopts):
            self._update.delete(self._name, "CNAME")
        elif any(change.kind is ChangeKind.UPSERT for change in changes):
            self._update.absent(self._name, "CNAME")
        edit: dict[tuple[ChangeKind, bool], Callable[[RecordChange], None]] = {
            (ChangeKind.UPSERT, True): self._put_own,
            (ChangeKind.UPSERT, False): self._replace,
            (ChangeKind.DELETE, True): self._remove_own,
            (ChangeKind.DELETE, False): self._remove_all,
        }
        for change in changes:
            edit[change.kind, change.shared](change)
        self._take_over(changes)

    def _put_own(self, change: RecordChange) -> None:
        old = [one for one in self._owners if (one.owner, one.type) == (change.owner, change.type)]
        self._disown([one for one in old if one.value not in change.values])
        self._add(change)

    def _take_over(self, changes: Sequence[RecordChange]) -> None:
        """Remove the unmanaged addresses that the changes adopt, of whichever type."""
        kept: set[tuple[str, str]] = {(change.type, value) for change in changes for value in change.values}
        kept |= {(one.type, one.value) for one in self._owners}
        replaced = {change.type for change in changes if change.kind is ChangeKind.UPSERT and not change.shared}
        for one in dict.fromkeys(one for change in changes for one in change.adopts):
            if one.type not in ADDRESS_TYPES or one.type in replaced:
                continue
            for value in one.values:
                if (one.type, value) not in kept:
                    self._guard()
                    self._update.delete(self._name, one.type, value)

    def _replace(self, change: RecordChange) -> None:
        self._update.delete(self._name, change.type)
        for one in self._owners:
            if one.type == change.type:
                self._update.delete(self._beside, one.rdata())
        self._add(change)

    def _remove_own(self, change: RecordChange) -> None:
        own = [one for one in self._owners if (one.owner, one.type) == (change.owner, change.type)]
        present = [one.value for one in own if one.value in self._current.values(change.type)]
        if own and sorted(present) == sorted(change.before):
            self._disown(own)

    def _remove_all(self, change: RecordChange) -> None:
        self._guard()
        for value in change.before:
            self._update.delete(self._name, change.type, value)
        for one in self._owners:
            if one.type == change.type and one.value in change.before:
                self._update.delete(self._beside, one.rdata())

    def _add(self, change: RecordChange) -> None:
        for value in change.values:
            self._update.add(self._name, change.ttl, change.type, value)
            self._update.add(self._beside, change.ttl, OwnerRecord(change.owner, change.type, value).rdata())

    def _disown(self, records: Sequence[OwnerRecord]) -> None:
        """Remove owner records, and the addresses that no other owner has."""
        for record in records:
            self._guard()
            self._update.delete(self._beside, record.rdata())
            self._owners.remove(record)
            if not any((one.type, one.value) == (record.type, record.value) for one in self._owners):
                self._update.delete(self._name, record.type, record.value)

    def _guard(self) -> None:
        """Let the server refuse the update unless the TXT records are the ones that were read."""
        if self._guarded:
            return
        self._guarded = True
        if self._current.texts is None:
            self._update.absent(self._beside, "TXT")
        else:
            self._update.present(self._beside, *self._current.texts)


def record_set(name: str, zone: str, current: Name) -> RecordSet:
    """The records under a name, as the core judges them."""
    if current.cut is not None:
        refusal = delegated(name, zone, current.cut)
        return RecordSet(name, coexists=True, refusal=(refusal.rule, refusal.evidence))
    owned: list[OwnedRecord] = []
    for type_ in ADDRESS_TYPES:
        present, ttl = current.addresses.get(type_, ((), 0))
        records = [one for one in current.owner_records if one.type == type_]
        for owner in dict.fromkeys(one.owner for one in records):
            values = tuple(one.value for one in records if one.owner == owner and one.value in present)
            owned.append(OwnedRecord(type_, values, ttl, owner))
        ownerless = tuple(value for value in present if value not in {one.value for one in records})
        if ownerless:
            owned.append(OwnedRecord(type_, ownerless, ttl, None))
    unmanaged = () if current.cname is None else (UnmanagedRecord("CNAME", (current.cname,), "a CNAME"),)
    return RecordSet(name, tuple(owned), unmanaged, coexists=True)
