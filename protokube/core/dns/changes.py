"""Which records to change: compares the wanted records with those that the server has.

Invariants, in whatever order control-plane nodes act or end:

- A shared name is never written as a whole. Each change concerns one owner's record, so no other can be lost.
- A name that has addresses never becomes empty. An own record is replaced in one step, and withdrawn only beside a
  running control-plane node's. A terminated owner's record is removed only beside one's own.
- Unmanaged records are left alone, except placeholders, and except with --dns-adopt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from protokube.core.dns.model import (
    OWN,
    PLACEHOLDERS,
    REMOVALS,
    ChangeKind,
    OwnedRecord,
    RecordBatch,
    RecordChange,
    RecordSet,
    RecordType,
    UnmanagedRecord,
    WantedRecord,
    WantedRecords,
)
from protokube.core.model import Unknown

UNMANAGED_RULE = "dns/foreign"


class RecordDecision(Struct, frozen=True):
    """The changes of one pass.

    `refusals` are (name, rule, evidence), `waiting` are (name, reason). `left_over`: how many records of terminated
    owners are left for later reconciles.
    """

    batches: tuple[RecordBatch, ...] = ()
    refusals: tuple[tuple[str, str, str], ...] = ()
    waiting: tuple[tuple[str, str], ...] = ()
    left_over: int = 0


class RecordPolicy(Struct, frozen=True):
    """The changes that are allowed beside writing our own records.

    `terminated`: the terminated owners with their evidence; at most `removals` of their records are removed now.
    `adopt`: unmanaged records under our names are replaced.
    """

    terminated: Mapping[str, str] = {}
    removals: int = 0
    adopt: bool = False


def decide_records(
    ours: WantedRecords, records: Mapping[str, RecordSet] | Unknown, policy: RecordPolicy
) -> RecordDecision:
    """Decide the batches of a pass from the wanted and the current records."""
    if isinstance(records, Unknown):
        return RecordDecision()
    names = [_Name(name, ours, records[name], policy) for name in sorted(ours.names) if name in records]
    decided = [name.decide() for name in names]
    own = [change for one in decided for change in one.changes]
    reasons = sorted({reason for one in decided for reason in one.reasons})
    # Two batches, since a server takes a batch whole: a removal that fails must not stop this node's own records.
    batches = [RecordBatch(OWN, tuple(own), "; ".join(reasons))] if own else []
    leftovers = [change for name in names for change in name.leftovers()]
    left = _pick(leftovers, ours.owner, policy.removals)
    if left:
        owners = sorted({one.owner for one in left})
        evidence = "; ".join(f"{owner} is terminated: {policy.terminated[owner]}" for owner in owners)
        batches.append(RecordBatch(REMOVALS, left, evidence))
    return RecordDecision(
        tuple(batches),
        tuple(refusal for one in decided for refusal in one.refusals),
        tuple(wait for one in decided for wait in one.waiting),
        len(leftovers) - len(left),
    )


def _pick(candidates: Sequence[RecordChange], owner: str, limit: int) -> tuple[RecordChange, ...]:
    """Choose at most `limit` removals."""

    def order(change: RecordChange) -> str:
        # Each node has an order of its own, so that nodes that clean up at the same time share the work.
        return hashlib.sha256("\n".join((owner, change.owner, change.name, change.type)).encode()).hexdigest()

    return tuple(sorted(candidates, key=order)[:limit])


class _Decision(Struct):
    """The decision for one name, gathered."""

    changes: list[RecordChange]
    reasons: list[str]
    refusals: list[tuple[str, str, str]]
    waiting: list[tuple[str, str]]


class _Name(Struct, frozen=True):
    """One name: its wanted and its current records."""

    name: str
    ours: WantedRecords
    current: RecordSet
    policy: RecordPolicy

    @property
    def wanted(self) -> tuple[WantedRecord, ...]:
        """This node's records under the name, one per type."""
        return tuple(record for record in self.ours.records if record.name == self.name)

    def decide(self) -> _Decision:
        """Decide this node's own records: write, repair, replace or withdraw them."""
        out = _Decision([], [], [], [])
        if self.current.refusal is not None:
            # A withdrawn name that has no zone has no record of ours either: no fault.
            if self.wanted:
                out.refusals.append((self.name, *self.current.refusal))
            return out
        for record in self.wanted:
            self._keep(record, out)
        self._delete_stale(out)
        return out

    def leftovers(self) -> list[RecordChange]:
        """The records of terminated owners to remove, if this node's own record stands beside them."""
        # Without an own record beside them, the last removal would leave the name empty.
        shared = any(record.shared for record in self.wanted) and not self.ours.private
        if not shared or not any(one.owner == self.ours.owner and one.values for one in self.current.owned):
            return []
        return [
            _delete(self.name, one, one.owner, True)
            for one in self.current.owned
            if one.owner in self.policy.terminated
        ]

    # --- this node's records ---

    def _keep(self, record: WantedRecord, out: _Decision) -> None:
        shared = record.shared and not self.ours.private
        plain = [one for one in self.current.owned if one.type == record.type]
        own = [one for one in plain if not shared or one.owner == self.ours.owner]
        unmanaged = self._unmanaged(record, plain, shared)
        placeholders = [one for one in unmanaged if _is_placeholder(one.values)]
        unmanaged = [one for one in unmanaged if one not in placeholders]
        adopt = self.policy.adopt and not self.ours.private
        if self.ours.private:
            # Lines of the hosts file that an operator wrote stay, whatever address they give.
            placeholders, unmanaged = [], placeholders + unmanaged
        if unmanaged and not adopt:
            out.refusals.append((self.name, UNMANAGED_RULE, _evidence(self.name, unmanaged, self.ours.private)))
            if self._is_blocked(unmanaged, shared):
                return
        if unmanaged and adopt:
            if shared:
                self._adopt(record, [*placeholders, *unmanaged], out)
                return
            # An exclusive name has one owner, who may replace all of it.
            placeholders += unmanaged
        values = self._values(record, own)
        if not placeholders and self._is_current(record, values, own):
            return
        before = tuple(value for one in own for value in one.values)
        out.changes.append(_upsert(record, values, before, shared, placeholders))
        out.reasons.append(_why(record, own, placeholders))

    def _unmanaged(self, record: WantedRecord, plain: Sequence[OwnedRecord], shared: bool) -> list[UnmanagedRecord]:
        """The unmanaged records that concern a wanted one; `plain` are the addresses of its type."""
        # A CNAME excludes every other record of its name, of whichever type (RFC 1034, 3.6.2).
        found = [
            one
            for one in self.current.unmanaged
            if (not shared if one.at_owner_name else one.type in (record.type, "CNAME"))
        ]
        if shared:
            found += [_without_owner(one, self.current.coexists) for one in plain if one.owner is None]
        if shared and record == self.wanted[0]:
            found += self._other_placeholders()
        return found

    def _other_placeholders(self) -> list[UnmanagedRecord]:
        """The placeholders of a family in which this node has no address.

        They go with the batch that writes our record: alone, their removal could empty the name.
        """
        types = {record.type for record in self.wanted}
        plain = (_without_owner(one, self.current.coexists) for one in self.current.owned if one.owner is None)
        found = (
            one for one in (*plain, *self.current.unmanaged) if one.type in PLACEHOLDERS and not one.at_owner_name
        )
        return [one for one in found if one.type not in types and _is_placeholder(one.values)]

    def _is_blocked(self, unmanaged: Sequence[UnmanagedRecord], shared: bool) -> bool:
        """Whether unmanaged records keep our record out: in a file never, under an exclusive name always."""
        # Route 53 keeps no multivalue record beside a simple one or an alias of the same name and type.
        return not self.ours.private and (not shared or any(one.blocks for one in unmanaged))

    def _is_current(self, record: WantedRecord, values: tuple[str, ...], own: list[OwnedRecord]) -> bool:
        if len(own) != 1:
            return False
        one = own[0]
        # A hosts file records neither owners nor TTLs.
        owner_matches = self.ours.private or one.owner == self.ours.owner
        same_ttl = self.ours.private or one.ttl == record.ttl
        return owner_matches and same_ttl and sorted(one.values) == sorted(values)

    def _values(self, record: WantedRecord, own: list[OwnedRecord]) -> tuple[str, ...]:
        """The values to write: in this node's own file, the addresses of peers that are Unknown now are kept."""
        if not (self.ours.private and record.shared and isinstance(self.ours.control_plane, Unknown)):
            return record.values
        return tuple(sorted({*record.values, *(value for one in own for value in one.values)}))

    def _adopt(self, record: WantedRecord, adopts: list[UnmanagedRecord], out: _Decision) -> None:
        """Replace unmanaged records, with --dns-adopt, by one record per running control-plane node, in one batch."""
        # The unmanaged record may serve all of them: to replace it by ours alone would take the others out of DNS.
        control_plane = self.ours.control_plane
        if isinstance(control_plane, Unknown):
            needed = "the other control-plane nodes' addresses are needed to adopt it"
            out.waiting.append((self.name, f"{needed}: {control_plane.reason}"))
            return
        for other in control_plane:
            if (other.name, other.type) == (record.name, record.type):
                standing = [one for one in self.current.owned if (one.type, one.owner) == (other.type, other.owner)]
                before = tuple(value for one in standing for value in one.values)
                out.changes.append(_upsert(other, other.values, before, True, adopts))
        out.reasons.append(f"{self.name} is adopted from {', '.join(one.why for one in adopts)}")

    def _delete_stale(self, out: _Decision) -> None:
        """Delete own records of a type in which this node has no address any more, or of a withdrawn name."""
        types = {record.type for record in self.wanted}
        stale = [one for one in self.current.owned if one.type not in types and self._is_own(one)]
        # While the peers are Unknown, their records in the hosts file only look stale.
        if not stale or (self.ours.private and isinstance(self.ours.control_plane, Unknown)):
            return
        if not (self._keeps_one(types, out) if self.wanted else self._kept_by_others()):
            return
        shared = not self.wanted or self.wanted[0].shared
        for one in stale:
            out.changes.append(_delete(self.name, one, self.ours.owner, shared and not self.ours.private))
            out.reasons.append(f"{self.name} {one.type} no longer belongs to {self.ours.owner}")

    def _keeps_one(self, types: set[RecordType], out: _Decision) -> bool:
        """Whether a record of ours stands under the name, or this batch adds one."""
        standing = (one for one in self.current.owned if one.type in types and one.values and self._is_own(one))
        return bool(out.changes) or any(standing)

    def _is_own(self, one: OwnedRecord) -> bool:
        exclusive = bool(self.wanted) and not self.wanted[0].shared
        return self.ours.private or exclusive or one.owner == self.ours.owner

    def _kept_by_others(self) -> bool:
        """Whether another running control-plane node has its record here: only then may ours be withdrawn."""
        if isinstance(self.ours.control_plane, Unknown):
            return False
        # A record of an owner that isn't a running control-plane node may lead nowhere.
        keepers = {one.owner for one in self.ours.control_plane if one.name == self.name} - {self.ours.owner}
        return any(one.owner in keepers and one.values for one in self.current.owned)


def _without_owner(one: OwnedRecord, coexists: bool) -> UnmanagedRecord:
    return UnmanagedRecord(one.type, one.values, "addresses that no owner is recorded for", blocks=not coexists)


def _is_placeholder(values: Sequence[str]) -> bool:
    return bool(values) and set(values) <= set(PLACEHOLDERS.values())


def _evidence(name: str, unmanaged: Iterable[UnmanagedRecord], private: bool) -> str:
    found = "; ".join(f"{one.type} {', '.join(one.values)} ({one.why})" for one in unmanaged)
    advice = "remove it" if private else "remove it, or allow --dns-adopt"
    return f"{name} has records that protokube didn't write: {found}; {advice}"


def _upsert(
    record: WantedRecord,
    values: tuple[str, ...],
    before: tuple[str, ...],
    shared: bool,
    adopts: Iterable[UnmanagedRecord],
) -> RecordChange:
    return RecordChange(
        ChangeKind.UPSERT, record.name, record.type, values, record.ttl, record.owner, shared, before, tuple(adopts)
    )


def _delete(name: str, one: OwnedRecord, owner: str | None, shared: bool) -> RecordChange:
    return RecordChange(ChangeKind.DELETE, name, one.type, (), one.ttl, owner or "", shared, one.values)


def _why(record: WantedRecord, own: list[OwnedRecord], placeholders: Sequence[UnmanagedRecord]) -> str:
    if placeholders:
        return f"{record.name} {record.type} holds {', '.join(one.why for one in placeholders)}"
    if not own:
        return f"{record.name} {record.type} is missing"
    return f"{record.name} {record.type} differs"
