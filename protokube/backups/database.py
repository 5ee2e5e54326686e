"""Counts what etcd's database file holds: which keys live, at which revision.

It reads the pages of bbolt (page.go, bucket.go) and etcd's buckets (server/storage/schema): `key` maps a
revision (8 bytes, `_`, 8 bytes, `t` for a deletion) to a mvccpb.KeyValue, whose first field is the key. etcd's own
tools count the entries of all buckets, which a restore changes; they can't tell whether a key was lost.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

_MAGIC = 0xED0CDAED
_VERSION = 2
_META, _LEAF, _BRANCH = 0x04, 0x02, 0x01
_BUCKET = 1
_PAGE = struct.Struct("<QHHI")
"""id, flags, count, overflow."""
_META_FIELDS = struct.Struct("<IIIIQQQQQQ")
"""magic, version, page size, flags, root page, sequence, freelist page, pages, transaction, checksum."""
_BRANCH_ELEMENT = struct.Struct("<IIQ")
_LEAF_ELEMENT = struct.Struct("<IIII")
_ROOT = struct.Struct("<QQ")
_REVISION = struct.Struct(">QcQ")
_DEEPEST = 64
"""Levels of pages. A tree that is deeper leads back into itself."""


class DatabaseError(Exception):
    """The file isn't a whole database of etcd's; the message says where."""


class Contents(Struct, frozen=True):
    """What a database holds. `keys`: how many keys live at the asked revision, or at the last one. `revision`: the
    last one. `compacted`: the revision up to which what was overwritten has been dropped."""

    keys: int
    revision: int
    compacted: int


def read_contents(path: Path, at: int | None = None) -> Contents:
    """What the database in a file holds; a snapshot's trailing hash doesn't matter. `at`: the revision at which keys
    are counted. Raises DatabaseError, and OSError."""
    with path.open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Database(data).contents(at)
        except (struct.error, IndexError) as error:
            raise DatabaseError(f"{path}: a page of it points beyond its end") from error
        except (ValueError, DatabaseError) as error:
            raise DatabaseError(f"{path}: {error}") from error


class _Database:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._size, self._root = self._newest_meta()

    def contents(self, at: int | None) -> Contents:
        buckets = dict(self._buckets())
        if b"key" not in buckets or b"meta" not in buckets:
            raise DatabaseError("it has no keys of etcd's")
        living: set[bytes] = set()
        last = 1  # an etcd without a key is at revision 1
        for name, value in self._bucket(buckets[b"key"]):
            main, _, _ = _REVISION.unpack_from(name)
            last = max(last, main)
            if at is not None and main > at:
                continue
            key = _key_of(value)
            if name[17:] == b"t":
                living.discard(key)
            elif value:  # etcdutl's --bump-revision leaves an entry without a key
                living.add(key)
        meta = dict(self._bucket(buckets[b"meta"]))
        scheduled = meta.get(b"scheduledCompactRev", b"")
        compacted = _REVISION.unpack_from(scheduled)[0] if scheduled else 0
        # A deletion that was compacted has left no entry, and etcd goes on from there (mvcc/kvstore.go).
        return Contents(len(living), max(last, compacted), compacted)

    def _newest_meta(self) -> tuple[int, int]:
        """The size of pages and the root page, by the newer of the two meta pages that are whole."""
        found: list[tuple[int, int, int]] = []
        sizes = {_META_FIELDS.unpack_from(self._data, _PAGE.size)[2], 4096, 8192, 16384, 65536}
        for place in (0, *sorted(sizes)):
            if place + _PAGE.size + _META_FIELDS.size > len(self._data):
                continue
            raw = self._data[place + _PAGE.size : place + _PAGE.size + _META_FIELDS.size]
            magic, version, size, _, root, _, _, _, transaction, checksum = _META_FIELDS.unpack(raw)
            if magic == _MAGIC and version == _VERSION and checksum == _fnv(raw[:-8]) and place in (0, size):
                found.append((transaction, size, root))
        if not found:
            raise DatabaseError("no page at its beginning is one of bbolt's")
        _, size, root = max(found)
        return size, root

    def _buckets(self) -> Iterator[tuple[bytes, bytes]]:
        for flags, name, value in self._leaves(self._root, 0):
            if flags & _BUCKET:
                yield name, value

    def _bucket(self, head: bytes) -> Iterator[tuple[bytes, bytes]]:
        root, _ = _ROOT.unpack_from(head)
        # A small bucket stands inside its head (bbolt's "inline bucket").
        elements = self._leaves(root, 0) if root else self._leaf(memoryview(head)[_ROOT.size :])
        for _, name, value in elements:
            yield name, value

    def _leaves(self, number: int, depth: int) -> Iterator[tuple[int, bytes, bytes]]:
        if depth > _DEEPEST:
            raise DatabaseError("its pages lead back into themselves")
        start = number * self._size
        own, flags, count, overflow = _PAGE.unpack_from(self._data, start)
        end = start + (overflow + 1) * self._size
        if own != number or end > len(self._data):
            raise DatabaseError(f"page {number} is not where it should be")
        with memoryview(self._data) as whole, whole[start:end] as page:
            if flags & _LEAF:
                yield from self._leaf(page)
                return
            if not flags & _BRANCH:
                raise DatabaseError(f"page {number} is neither a branch nor a leaf")
            places = range(_PAGE.size, _PAGE.size + count * _BRANCH_ELEMENT.size, _BRANCH_ELEMENT.size)
            below = [_BRANCH_ELEMENT.unpack_from(page, place)[2] for place in places]
        for child in below:
            yield from self._leaves(child, depth + 1)

    def _leaf(self, page: memoryview) -> Iterator[tuple[int, bytes, bytes]]:
        _, _, count, _ = _PAGE.unpack_from(page)
        for place in range(_PAGE.size, _PAGE.size + count * _LEAF_ELEMENT.size, _LEAF_ELEMENT.size):
            flags, at, name, value = _LEAF_ELEMENT.unpack_from(page, place)
            begin = place + at
            if begin + name + value > len(page):
                raise DatabaseError("an entry reaches beyond its page")
            yield flags, bytes(page[begin : begin + name]), bytes(page[begin + name : begin + name + value])


def _key_of(value: bytes) -> bytes:
    """The key in a mvccpb.KeyValue: field 1, which etcd writes first."""
    if not value or value[0] != 0x0A:
        return b""
    size, place, shift = 0, 1, 0
    while True:
        size |= (value[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if not value[place - 1] & 0x80:
            break
    if place + size > len(value):
        raise DatabaseError("a key reaches beyond its entry")
    return value[place : place + size]


def _fnv(data: bytes) -> int:
    """FNV-1a of 64 bits, bbolt's checksum of a meta page."""
    found = 0xCBF29CE484222325
    for byte in data:
        found = (found ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return found
