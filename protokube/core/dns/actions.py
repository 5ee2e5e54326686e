"""What is done to records."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from protokube.core.dns.model import OWN, RecordChange
from protokube.core.model import Facet


class ChangeRecords(Struct, frozen=True):
    """One batch of DNS changes that belong together. `batch` is OWN or REMOVALS."""

    kind: ClassVar[str] = "change-records"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.RECORDS})
    batch: str
    records: tuple[RecordChange, ...]

    @property
    def subject(self) -> str:
        """The record's name, or the batch's when there are several; what others left is always a subject of its own,
        beside this node's record of the same name."""
        names = sorted({change.name for change in self.records})
        return names[0] if len(names) == 1 and self.batch == OWN else self.batch

    def describe(self) -> str:
        """One line per record for people, the first one on the same line."""
        return "; ".join(change.describe() for change in self.records)
