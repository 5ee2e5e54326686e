"""The actions on DNS records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from msgspec.structs import replace

from protokube.core.action import ActionValue, Facet
from protokube.core.dns.model import OWN, ChangeKind, OwnedRecord, RecordChange, RecordSet
from protokube.core.model import Unknown


class RecordWriter(Protocol):
    """Executes batches of changes."""

    def change(self, changes: Sequence[RecordChange]) -> None:
        """Apply one batch; idempotent."""


class ChangeRecords(ActionValue, frozen=True, tag="change-records"):
    """One batch of DNS changes that belong together. `batch` is OWN or REMOVALS."""

    port: ClassVar[str] = "dns"
    facts: ClassVar[str] = "records"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.RECORDS})
    batch: str
    records: tuple[RecordChange, ...]

    @property
    def subject(self) -> str:
        """The record's name, or the batch's when there are several names.

        Removals always have the batch as their subject: this node's own record of the same name is another subject.
        """
        names = sorted({change.name for change in self.records})
        return names[0] if len(names) == 1 and self.batch == OWN else self.batch

    @property
    def lock(self) -> str:
        """The batch's name: two changes of one batch never run side by side."""
        return self.batch

    def describe(self) -> str:
        """One line per record for people, the first one on the same line."""
        return "; ".join(change.describe() for change in self.records)

    def predict(self, facts: Mapping[str, RecordSet] | Unknown, now: float) -> Mapping[str, RecordSet]:
        """Apply the batch to the records."""
        assert not isinstance(facts, Unknown)
        records = dict(facts)
        for change in self.records:
            records[change.name] = _changed(records.get(change.name, RecordSet(change.name)), change)
        return records

    def execute(self, port: RecordWriter) -> None:
        """Send the batch."""
        port.change(self.records)


def _changed(current: RecordSet, change: RecordChange) -> RecordSet:
    kept: tuple[OwnedRecord, ...] = tuple(
        one
        for one in current.owned
        if one.type != change.type or (change.shared and one.owner not in (change.owner, None))
    )
    if change.kind is ChangeKind.UPSERT:
        kept += (OwnedRecord(change.type, change.values, change.ttl, change.owner),)
    unmanaged = tuple(one for one in current.unmanaged if one not in change.adopts)
    return replace(current, owned=kept, unmanaged=unmanaged)
