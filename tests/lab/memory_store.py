"""A store in memory, as strict as S3, with trouble on demand: down, answers lost, and answers that are old."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from protokube.errors import StoreConflictError, StoreError
from protokube.ports import StoredObject
from protokube.store.names import check_deletable, check_name, check_prefix


class MemoryStore:
    """The objects, each with all contents that it ever had. `trouble` is asked before each call with its name.

    It answers `down`, `lost` (a write is carried out, and not answered), `conflict` (a write meets others), `old` (a
    read shows what stood there before the last write), or None.
    """

    def __init__(self) -> None:
        self.contents: dict[str, list[bytes]] = {}
        self.calls: list[str] = []
        self.trouble: Callable[[str], str | None] = lambda _call: None

    def get(self, name: str) -> StoredObject | None:
        """See ports.StoreReader."""
        trouble = self._begin("get")
        written = self.contents.get(check_name(name), [])
        number = len(written) - (1 if trouble == "old" else 0)
        return StoredObject(written[number - 1], str(number)) if number > 0 else None

    def list(self, prefix: str) -> Sequence[str]:
        """See ports.StoreReader."""
        self._begin("list")
        check_prefix(prefix)
        return sorted(name for name in self.contents if name.startswith(prefix))

    def put_if_absent(self, name: str, content: bytes) -> bool:
        """See ports.Store."""
        return self._write(name, content, 0)

    def compare_and_swap(self, name: str, content: bytes, version: str) -> bool:
        """See ports.Store."""
        return self._write(name, content, int(version))

    def put_file_if_absent(self, name: str, path: Path) -> bool:
        """See ports.BulkStore."""
        return self._write(name, path.read_bytes(), 0)

    def get_file(self, name: str, path: Path) -> bool:
        """See ports.BulkStore."""
        found = self.get(name)
        if found is not None:
            path.write_bytes(found.content)
        return found is not None

    def delete(self, name: str) -> None:
        """See ports.BulkStore."""
        self._begin("delete")
        self.contents.pop(check_deletable(name), None)

    def _write(self, name: str, content: bytes, number: int) -> bool:
        trouble = self._begin("put")
        if trouble == "conflict":
            raise StoreConflictError("other writes are under way")
        written = self.contents.get(check_name(name), [])
        if len(written) != number:
            return False
        self.contents[name] = [*written, content]
        if trouble == "lost":
            raise StoreError("no answer")
        return True

    def _begin(self, call: str) -> str | None:
        self.calls.append(call)
        trouble = self.trouble(call)
        if trouble == "down":
            raise StoreError("the store is down")
        return trouble
