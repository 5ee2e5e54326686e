"""The hosts file as a DNS provider: private to this node, so it has the names of all peers.

It keeps no owner records: the block between the guards is ours as a whole.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from protokube.core.dns.model import ChangeKind, OwnedRecord, RecordChange, RecordSet, RecordType, UnmanagedRecord
from protokube.dnsprovider import backup
from protokube.dnsprovider.hosts_text import HostsText, normal_address, parse, record_type
from protokube.errors import ProviderError, explain

TTL = 60
"""Seconds that every record is reported with, since a hosts file has no TTL."""

_TYPES: tuple[RecordType, ...] = ("A", "AAAA")
_TRIES = 3

_ADVICE = {
    errno.EROFS: "that filesystem is read-only: mount a writable file there, or use --dns none",
    errno.ELOOP: "it is a symbolic link, which is not followed: put a file there, or use --dns none",
}


class HostsFile:
    """The hosts file at `path` (a path of this machine, root prefix included); implements `ports.DNSProvider`.

    `backups` is the folder for the backup that is made before the file is written; without it, the file's own.
    `watch` are the files whose changes matter.
    """

    private = True
    local = True

    def __init__(self, path: str, backups: str | None = None) -> None:
        self._path = path
        self._backup = Path(backups, "hosts.backup") if backups is not None else Path(f"{path}.protokube-backup")
        self.watch: tuple[Path, ...] = (Path(path),)

    def record_sets(self, names: frozenset[str]) -> Mapping[str, RecordSet]:
        """Read the records under each name. Entries outside of our block are unmanaged: the resolver reads them too.

        Of a file that a crash left torn none of our records is reported, so that the next change writes all of them.
        """
        found = self._read()
        old = backup.torn_from(self._backup, found)
        text = parse((found if old is None else old).decode(errors="surrogateescape"))
        return {name: self._record_set(name, text, torn=old is not None) for name in names}

    def change(self, changes: Sequence[RecordChange]) -> None:
        """Put the addresses of a name and type into our block, or remove them; the file keeps its inode.

        A file that a crash left torn is repaired first. A file that would not change is not written.
        """
        for change in changes:
            if change.adopts:
                lines = ", ".join(one.why for one in change.adopts)
                raise ProviderError(
                    f"{change.name}: what isn't in our block is never changed: remove it by hand ({lines})"
                )
        for _ in range(_TRIES):
            if self._change(changes):
                return
        raise ProviderError(f"{self._path}: another program writes it again and again: see which one")

    def recover(self) -> None:
        """Repair a file that a crash left torn, when there is no other change."""
        if not self._backup.exists():
            return
        with explain(f"recover {self._path}", _ADVICE):
            try:
                file = self._open(os.O_RDWR)
            except FileNotFoundError:
                return
            try:
                backup.restore(self._backup, file)
            finally:
                os.close(file)

    # --- inside --------------------------------------------------------------------------------

    def _record_set(self, name: str, text: HostsText, *, torn: bool) -> RecordSet:
        owned = [
            OwnedRecord(kind, tuple(sorted(text.entries[name, kind])), TTL, None)
            for kind in _TYPES
            if (name, kind) in text.entries and not torn
        ]
        unmanaged = [
            UnmanagedRecord(entry.type, (entry.address,), self._why(entry.line, shadows=entry.shadows))
            for entry in text.unmanaged
            if entry.name == name
        ]
        return RecordSet(name, tuple(owned), tuple(unmanaged))

    def _why(self, line: int, *, shadows: bool) -> str:
        where = "before our entries, and so wins over them" if shadows else "after our entries"
        return f"line {line} of {self._path}, {where}"

    def _change(self, changes: Sequence[RecordChange]) -> bool:
        """One try; False when another program wrote in between."""
        found = self._read()
        if _wanted(found, changes) == found and not self._backup.exists():
            return True
        with explain(f"write {self._path}", _ADVICE):
            file = self._open(os.O_RDWR | os.O_CREAT)
            try:
                backup.restore(self._backup, file)
                old = backup.content(file)
                new = _wanted(old, changes)
                return new == old or backup.rewrite(self._backup, file, old, new)
            finally:
                os.close(file)

    def _read(self) -> bytes:
        with explain(f"read {self._path}", _ADVICE):
            try:
                file = self._open(os.O_RDONLY)
            except FileNotFoundError:
                return b""
            try:
                return backup.content(file)
            finally:
                os.close(file)

    def _open(self, flags: int) -> int:
        if flags & os.O_CREAT:
            Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)


def _wanted(content: bytes, changes: Sequence[RecordChange]) -> bytes:
    """The file's content with the changes in our block; everything else byte for byte."""
    text = parse(content.decode(errors="surrogateescape"))
    entries = dict(text.entries)
    for change in changes:
        entries.pop((change.name, change.type), None)
        if change.kind is ChangeKind.UPSERT and change.values:
            entries[change.name, change.type] = frozenset(_address(change, value) for value in change.values)
    return text.with_entries(entries).encode(errors="surrogateescape")


def _address(change: RecordChange, value: str) -> str:
    """A value as the file spells it; ProviderError for a name or value that would break its line."""
    try:
        address = normal_address(value)
    except ValueError as error:
        raise ProviderError(f"{change.name} {change.type}: {value!r} is no IP address") from error
    if (
        record_type(address) != change.type
        or change.name != change.name.strip()
        or set(change.name) & set(" \t\r\n#")
    ):
        raise ProviderError(f"{change.name!r} {change.type} {value}: can't stand in a hosts file")
    return address
