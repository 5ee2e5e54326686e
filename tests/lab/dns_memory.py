"""A zone in memory with Route 53's rules, and a DNS provider on it: what the planner is tried on by the hundred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from protokube.core.dns.model import ChangeKind, OwnedRecord, RecordChange, RecordSet, RecordType, UnmanagedRecord
from protokube.errors import ProviderError


class MemoryZone:
    """Records by (name, type, owner); owner None is a simple record, which excludes others of its name and type.

    A name's simple records have one owner, or, `by_type`, as on a server with dynamic updates, one for each type.
    """

    def __init__(self, *, by_type: bool = False) -> None:
        self.by_type = by_type
        self.records: dict[tuple[str, RecordType, str | None], tuple[str, ...]] = {}
        self.owners: dict[tuple[str, RecordType | None], str] = {}

    def place(self, name: str, kind: RecordType) -> tuple[str, RecordType | None]:
        """Where the owner of a simple record is noted."""
        return name, kind if self.by_type else None

    def addresses(self) -> dict[str, frozenset[str]]:
        """What clients of the names get."""
        names = {name for name, _, _ in self.records}
        return {
            name: frozenset(value for key, values in self.records.items() if key[0] == name for value in values)
            for name in names
        }


class MemoryDns:
    """A provider on the zone. `private` and `local` as the port has them."""

    private = False
    local = False
    watch: tuple[Path, ...] = ()

    def __init__(self, zone: MemoryZone) -> None:
        self._zone = zone

    def record_sets(self, names: frozenset[str]) -> Mapping[str, RecordSet]:
        return {name: self._record_set(name) for name in names}

    def _record_set(self, name: str) -> RecordSet:
        owned = [
            OwnedRecord(
                kind, values, 60, owner if owner is not None else self._zone.owners.get(self._zone.place(name, kind))
            )
            for (where, kind, owner), values in self._zone.records.items()
            if where == name
        ]
        return RecordSet(name, tuple(owned))

    def change(self, changes: Sequence[RecordChange]) -> None:
        """All or nothing."""
        records, owners = dict(self._zone.records), dict(self._zone.owners)
        for change in changes:
            owner = change.owner if change.shared else None
            key = (change.name, change.type, owner)
            for adopted in change.adopts:
                self._take_away(records, change.name, adopted)
            if change.kind is ChangeKind.DELETE:
                if records.get(key) == change.before:
                    del records[key]
                continue
            clash = [one for one in records if one[:2] == key[:2] and (one[2] is None) != (owner is None)]
            if clash:
                raise ProviderError(f"{change.name}: simple and shared records exclude one another")
            records[key] = change.values
            if owner is None:
                owners[self._zone.place(change.name, change.type)] = change.owner
        self._zone.records, self._zone.owners = records, owners

    def recover(self) -> None:
        """A batch is never half written, so that there is nothing to put right."""

    def _take_away(
        self,
        records: dict[tuple[str, RecordType, str | None], tuple[str, ...]],
        name: str,
        adopted: UnmanagedRecord,
    ) -> None:
        for key in [key for key, values in records.items() if key[0] == name and key[2] is None]:
            if (key[1], records[key]) == (adopted.type, adopted.values):
                del records[key]
