"""What stands under a name on a server with dynamic updates, and the update that changes it; no connection, no call.

Addresses are single A and AAAA records. Who wrote what stands beside them, one TXT record for each instance and
address at `_protokube.<name>`: "protokube" "<instance id>" "A" "10.0.0.1".

Adding needs no condition: no two instances write the same record. What takes an address away does it on condition
that these TXT records are still the ones that were looked at, so an address that somebody claims meanwhile stays.
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

from protokube.core.dns.model import ChangeKind, ForeignRecord, OwnedRecord, RecordChange, RecordSet, RecordType

SIGN_LABEL = "_protokube"
MARK = b"protokube"
ADDRESS_TYPES: tuple[RecordType, ...] = ("A", "AAAA")


class Claim(Struct, frozen=True):
    """One TXT record: `owner` wrote `value`."""

    owner: str
    type: str
    value: str

    def rdata(self) -> dns.rdtypes.ANY.TXT.TXT:
        """The record as dnspython has it."""
        strings = [MARK, self.owner.encode(), self.type.encode(), self.value.encode()]
        return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)


class Name(Struct):
    """What the server says of one name. `signs` is the TXT record set as it stands, None when there is none."""

    addresses: dict[RecordType, tuple[tuple[str, ...], int]] = field(default_factory=dict)
    cname: str | None = None
    signs: dns.rrset.RRset | None = None

    def values(self, type_: RecordType) -> tuple[str, ...]:
        """The addresses of one type; empty when there are none."""
        return self.addresses.get(type_, ((), 0))[0]

    @property
    def fits(self) -> bool:
        """Whether every address has an owner, and every owner's address is there."""
        claimed = {(claim.type, claim.value) for claim in self.claims}
        return claimed == {(type_, value) for type_ in self.addresses for value in self.values(type_)}

    @property
    def claims(self) -> list[Claim]:
        """The owners' records among the TXT records, in an order of their own."""
        texts = [tuple(part.decode(errors="replace") for part in rdata.strings) for rdata in self.signs or ()]
        return sorted(
            (Claim(*text[1:]) for text in texts if len(text) == 4 and text[0] == MARK.decode()),
            key=lambda claim: (claim.owner, claim.type, claim.value),
        )


class Edit:
    """Builds the part of an update that concerns one name, from what stands there now."""

    def __init__(self, update: dns.update.UpdateMessage, name: str, there: Name) -> None:
        self._update = update
        self._name = dns.name.from_text(name)
        self._sign = dns.name.from_text(f"{SIGN_LABEL}.{name}")
        self._there = there
        self._claims = there.claims
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

    def _put_own(self, change: RecordChange) -> None:
        old = [one for one in self._claims if (one.owner, one.type) == (change.owner, change.type)]
        self._unclaim([one for one in old if one.value not in change.values])
        claimed = {one.value for one in self._claims if one.type == change.type} | set(change.values)
        for foreign in change.adopts:
            for value in foreign.values if foreign.type == change.type else ():
                if value not in claimed:
                    self._guard()
                    self._update.delete(self._name, change.type, value)
        self._add(change)

    def _replace(self, change: RecordChange) -> None:
        self._update.delete(self._name, change.type)
        for claim in self._claims:
            if claim.type == change.type:
                self._update.delete(self._sign, claim.rdata())
        self._add(change)

    def _remove_own(self, change: RecordChange) -> None:
        mine = [one for one in self._claims if (one.owner, one.type) == (change.owner, change.type)]
        present = [one.value for one in mine if one.value in self._there.values(change.type)]
        if mine and sorted(present) == sorted(change.before):
            self._unclaim(mine)

    def _remove_all(self, change: RecordChange) -> None:
        self._guard()
        for value in change.before:
            self._update.delete(self._name, change.type, value)
        for claim in self._claims:
            if claim.type == change.type and claim.value in change.before:
                self._update.delete(self._sign, claim.rdata())

    def _add(self, change: RecordChange) -> None:
        for value in change.values:
            self._update.add(self._name, change.ttl, change.type, value)
            self._update.add(self._sign, change.ttl, Claim(change.owner, change.type, value).rdata())

    def _unclaim(self, claims: Sequence[Claim]) -> None:
        """Take back claims, and the addresses that nobody else claims."""
        for claim in claims:
            self._guard()
            self._update.delete(self._sign, claim.rdata())
            self._claims.remove(claim)
            if not any((one.type, one.value) == (claim.type, claim.value) for one in self._claims):
                self._update.delete(self._name, claim.type, claim.value)

    def _guard(self) -> None:
        """Make the update depend on the TXT records being what we looked at."""
        if self._guarded:
            return
        self._guarded = True
        if self._there.signs is None:
            self._update.absent(self._sign, "TXT")
        else:
            self._update.present(self._sign, *self._there.signs)


def record_set(name: str, there: Name) -> RecordSet:
    """What stands under a name, as the planner wants to know it."""
    owned: list[OwnedRecord] = []
    for type_ in ADDRESS_TYPES:
        present, ttl = there.addresses.get(type_, ((), 0))
        claims = [claim for claim in there.claims if claim.type == type_]
        for owner in dict.fromkeys(claim.owner for claim in claims):
            values = tuple(claim.value for claim in claims if claim.owner == owner and claim.value in present)
            owned.append(OwnedRecord(type_, values, ttl, owner))
        unsigned = tuple(value for value in present if value not in {claim.value for claim in claims})
        if unsigned:
            owned.append(OwnedRecord(type_, unsigned, ttl, None))
    foreign = () if there.cname is None else (ForeignRecord("CNAME", (there.cname,), "a CNAME"),)
    return RecordSet(name, tuple(owned), foreign, coexists=True)
