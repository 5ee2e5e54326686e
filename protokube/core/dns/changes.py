"""Which records to change: what should stand under the names against what the server says.

Invariants, whatever the order in which masters act or die:

- a shared name is never written as a whole: each change concerns one owner's record, so nothing can be lost;
- a name that was filled never becomes empty: an own record is replaced in one step and withdrawn only while a
  living master's stands; what others left is removed only where one's own record stands;
- other people's records are left alone, except placeholders, which serve nobody, and what the operator gave up.
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
    UnmanagedRecord,
    OwnedRecord,
    RecordBatch,
    RecordChange,
    RecordSet,
    RecordType,
    WantedRecord,
    WantedRecords,
)
from protokube.core.model import Unknown

UNMANAGED_RULE = "dns/foreign"


class RecordDecision(Struct, frozen=True):
    """What to change now.

    `refusals` are (name, rule, evidence), `waiting` are (name, reason). `left_over`: how many records of terminated
    owners are left for later reconciles.
    """

    batches: tuple[RecordBatch, ...] = ()
    refusals: tuple[tuple[str, str, str], ...] = ()
    waiting: tuple[tuple[str, str], ...] = ()
    left_over: int = 0


class RecordPolicy(Struct, frozen=True):
    """What may be done beside writing our own records.

    `terminated`: owners that are terminated, with the evidence; at most `removals` of their records are removed now.
    `adopt`: records that others wrote under our names are replaced.
    """

    terminated: Mapping[str, str] = {}
    removals: int = 0
    adopt: bool = False


def decide_records(
    ours: WantedRecords, records: Mapping[str, RecordSet] | Unknown, policy: RecordPolicy
) -> RecordDecision:
    """Decide the batches of a pass, by what should stand under our names and what does."""
    if isinstance(records, Unknown):
        return RecordDecision()
    names = [_Name(name, ours, records[name], policy) for name in sorted(ours.names) if name in records]
    decided = [name.decide() for name in names]
    own = [change for one in decided for change in one.changes]
    reasons = sorted({reason for one in decided for reason in one.reasons})
    batches = [RecordBatch(OWN, tuple(own), "; ".join(reasons))] if own else []
    leftovers = [change for name in names for change in name.leftovers()]
    left = _pick(leftovers, ours.owner, policy.removals)
    if left:
        owners = sorted({one.owner for one in left})
        evidence = "; ".join(f"{owner} is gone: {policy.terminated[owner]}" for owner in owners)
        batches.append(RecordBatch(REMOVALS, left, evidence))
    return RecordDecision(
        tuple(batches),
        tuple(refusal for one in decided for refusal in one.refusals),
        tuple(wait for one in decided for wait in one.waiting),
        len(leftovers) - len(left),
    )


def _pick(candidates: Sequence[RecordChange], owner: str, limit: int) -> tuple[RecordChange, ...]:
    """At most `limit`, in an order of each master's own: masters that clean up at once share the work."""

    def order(change: RecordChange) -> str:
        return hashlib.sha256("\n".join((owner, change.owner, change.name, change.type)).encode()).hexdigest()

    return tuple(sorted(candidates, key=order)[:limit])


class _Decision(Struct):
    """What is decided for one name, gathered."""

    changes: list[RecordChange]
    reasons: list[str]
    refusals: list[tuple[str, str, str]]
    waiting: list[tuple[str, str]]


class _Name(Struct, frozen=True):
    """One name: what should stand there and what does."""

    name: str
    ours: WantedRecords
    current: RecordSet
    policy: RecordPolicy

    @property
    def wanted(self) -> tuple[WantedRecord, ...]:
        """This node's records under the name, one per type."""
        return tuple(record for record in self.ours.records if record.name == self.name)

    def decide(self) -> _Decision:
        """This node's own records: written, repaired, replaced or withdrawn."""
        out = _Decision([], [], [], [])
        if self.current.refusal is not None:
            if self.wanted:
                out.refusals.append((self.name, *self.current.refusal))
            return out
        for record in self.wanted:
            self._keep(record, out)
        self._drop(out)
        return out

    def leftovers(self) -> list[RecordChange]:
        """The records of terminated owners, if this node's own record stands beside them."""
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
        unmanaged = [
            one for one in self.current.unmanaged if (not shared if one.at_owner_name else one.type in (record.type, "CNAME"))
        ]
        if shared:
            unmanaged += [_without_owner(one, self.current.coexists) for one in plain if one.owner is None]
        if shared and record == self.wanted[0]:
            unmanaged += self._other_placeholders()
        placeholders = [one for one in unmanaged if _is_placeholder(one.values)]
        unmanaged = [one for one in unmanaged if one not in placeholders]
        adopt = self.policy.adopt and not self.ours.private
        if self.ours.private:
            placeholders, unmanaged = [], placeholders + unmanaged
        if unmanaged and not adopt:
            out.refusals.append((self.name, UNMANAGED_RULE, _evidence(self.name, unmanaged, self.ours.private)))
            if self._blocked(unmanaged, shared):
                return
        if unmanaged and adopt:
            if shared:
                self._exchange(record, [*placeholders, *unmanaged], out)
                return
            placeholders += unmanaged
        values = self._with_unseen(record, own)
        if not placeholders and self._stands(record, values, own):
            return
        before = tuple(value for one in own for value in one.values)
        out.changes.append(_upsert(record, values, before, shared, placeholders))
        out.reasons.append(_why(record, own, placeholders))

    def _other_placeholders(self) -> list[UnmanagedRecord]:
        """Placeholders of a family that this node has no address of. They go with the batch that writes ours."""
        types = {record.type for record in self.wanted}
        plain = (_without_owner(one, self.current.coexists) for one in self.current.owned if one.owner is None)
        found = (one for one in (*plain, *self.current.unmanaged) if one.type in PLACEHOLDERS and not one.at_owner_name)
        return [one for one in found if one.type not in types and _is_placeholder(one.values)]

    def _blocked(self, unmanaged: Sequence[UnmanagedRecord], shared: bool) -> bool:
        """Whether strangers keep our record out: in a file never, under an exclusive name always."""
        return not self.ours.private and (not shared or any(one.blocks for one in unmanaged))

    def _stands(self, record: WantedRecord, values: tuple[str, ...], own: list[OwnedRecord]) -> bool:
        if len(own) != 1:
            return False
        one = own[0]
        owner_matches = self.ours.private or one.owner == self.ours.owner
        same_ttl = self.ours.private or one.ttl == record.ttl
        return owner_matches and same_ttl and sorted(one.values) == sorted(values)

    def _with_unseen(self, record: WantedRecord, own: list[OwnedRecord]) -> tuple[str, ...]:
        """In a file of our own, addresses of peers that can't be seen now stay."""
        if not (self.ours.private and record.shared and isinstance(self.ours.control_plane, Unknown)):
            return record.values
        return tuple(sorted({*record.values, *(value for one in own for value in one.values)}))

    def _exchange(self, record: WantedRecord, adopts: list[UnmanagedRecord], out: _Decision) -> None:
        """With the operator's word: other people's records for one record per living master, in one batch."""
        control_plane = self.ours.control_plane
        if isinstance(control_plane, Unknown):
            out.waiting.append((self.name, f"the other masters' addresses are needed to adopt it: {control_plane.reason}"))
            return
        for master in control_plane:
            if (master.name, master.type) == (record.name, record.type):
                standing = [one for one in self.current.owned if (one.type, one.owner) == (master.type, master.owner)]
                before = tuple(value for one in standing for value in one.values)
                out.changes.append(_upsert(master, master.values, before, True, adopts))
        out.reasons.append(f"{self.name} is adopted from {', '.join(one.why for one in adopts)}")

    def _drop(self, out: _Decision) -> None:
        """Records of types that this node has no address for any more, or of a name that it left."""
        types = {record.type for record in self.wanted}
        stale = [one for one in self.current.owned if one.type not in types and self._is_own(one)]
        if not stale or (self.ours.private and isinstance(self.ours.control_plane, Unknown)):
            return
        if not (self._stays(types, out) if self.wanted else self._kept_by_others()):
            return
        shared = not self.wanted or self.wanted[0].shared
        for one in stale:
            out.changes.append(_delete(self.name, one, self.ours.owner, shared and not self.ours.private))
            out.reasons.append(f"{self.name} {one.type} no longer belongs to {self.ours.owner}")

    def _stays(self, types: set[RecordType], out: _Decision) -> bool:
        """Whether a record of ours stands under the name, or will with this very batch."""
        standing = (one for one in self.current.owned if one.type in types and one.values and self._is_own(one))
        return bool(out.changes) or any(standing)

    def _is_own(self, one: OwnedRecord) -> bool:
        exclusive = bool(self.wanted) and not self.wanted[0].shared
        return self.ours.private or exclusive or one.owner == self.ours.owner

    def _kept_by_others(self) -> bool:
        """Whether a living master that belongs here has its record here: only then may ours leave."""
        if isinstance(self.ours.control_plane, Unknown):
            return False
        keepers = {one.owner for one in self.ours.control_plane if one.name == self.name} - {self.ours.owner}
        return any(one.owner in keepers and one.values for one in self.current.owned)


def _without_owner(one: OwnedRecord, coexists: bool) -> UnmanagedRecord:
    return UnmanagedRecord(one.type, one.values, "addresses that no owner is recorded for", blocks=not coexists)


def _is_placeholder(values: Sequence[str]) -> bool:
    return bool(values) and set(values) <= set(PLACEHOLDERS.values())


def _evidence(name: str, unmanaged: Iterable[UnmanagedRecord], private: bool) -> str:
    found = "; ".join(f"{one.type} {', '.join(one.values)} ({one.why})" for one in unmanaged)
    advice = "remove it" if private else "remove it, or allow --dns-adopt"
    return f"under {name} stands what protokube didn't write: {found}; {advice}"


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
