"""The log of a growth, kept on the disk behind the filesystem's old end: what is to be written, before it is written.

A growth changes hundreds of pages. Cut off, some would be new and some old, in whatever order the disk kept them. So
all of them are written to a log first, where the disk is proven blank and the larger filesystem has nothing; then
into place, the page with the superblock last. Whoever finds the log whole writes it again; whoever finds it
incomplete removes it. It holds only as long as the superblock is the very one that it was made for: a mount changes
that.

Layout of the record, one page within the first MiB behind the old end: magic (8 bytes), the text's length (4, little
endian), its SHA-256 (32), the text (JSON), zeros. It says where the log stands: the numbers of its pages (8 bytes
each, in whole pages), then the pages.
"""

from __future__ import annotations

import struct

from protokube.host.disk.jobs import digest
from protokube.host.disk.rawdisk import CHUNK, PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import TypedDict

    from protokube.host.disk.ext4 import Superblock
    from protokube.host.disk.rawdisk import RawDisk

    class Fields(TypedDict):
        """Whose growth it is: the volume, the disk's size, the digest of the superblock before. Where the log stands:
        its offset and length in bytes, how many pages are in it, its SHA-256."""

        volume_id: str
        size: int
        superblock: str
        at: int
        length: int
        count: int
        digest: str


_MAGIC = b"PKGROWTH"
_HEADER = struct.Struct("<8sI32s")
_NUMBER = struct.Struct("<Q")
_WINDOW = CHUNK
_MOST = 256 << 20
_FIELDS: dict[str, type] = {
    "volume_id": str,
    "size": int,
    "superblock": str,
    "at": int,
    "length": int,
    "count": int,
    "digest": str,
}


class NoRoomError(Exception):
    """The log has no room behind the filesystem's end, or is too long."""


class Redo:
    """A growth that was begun: `offset` is the record's place, `fields` what it says."""

    __slots__ = ("fields", "offset")

    def __init__(self, offset: int, fields: Fields) -> None:
        self.offset = offset
        self.fields = fields

    def load(self, raw: RawDisk) -> dict[int, bytes] | None:
        """The (offset: content) of each page of the log; None when the log is incomplete."""
        import hashlib

        at, length, count = self.fields["at"], self.fields["length"], self.fields["count"]
        body = b"".join(raw.read(at + start, min(CHUNK, length - start)) for start in range(0, length, CHUNK))
        if hashlib.sha256(body).hexdigest() != self.fields["digest"]:
            return None
        numbers = [number * PAGE for (number,) in _NUMBER.iter_unpack(body[: count * _NUMBER.size])]
        first = length - count * PAGE
        return {number: body[first + index * PAGE :][:PAGE] for index, number in enumerate(numbers)}

    def strange(self, offset: int, data: bytes, pages: Mapping[int, bytes]) -> bytes:
        """Some of the disk's bytes, with zeros in place of those that are the record's, the log's or its pages'."""
        own = [(self.offset, PAGE), (self.fields["at"], self.fields["length"])]
        for start in range(offset - offset % PAGE, offset + len(data), PAGE):
            if page := pages.get(start):
                first, last = max(start, offset), min(start + PAGE, offset + len(data))
                if data[first - offset : last - offset] == page[first - start : last - start]:
                    own.append((first, last - first))
        for start, length in own:
            before, behind = max(0, start - offset), max(0, start + length - offset)
            data = data[:before] + bytes(len(data[before:behind])) + data[behind:]
        return data


def find(raw: RawDisk, superblock: Superblock, volume_id: str) -> Redo | None:
    """The growth of this very filesystem on this volume that was begun and not ended."""
    start = _end(superblock)
    if raw.size - start < _WINDOW:
        return None
    window = raw.read(start, _WINDOW)
    for offset in range(0, _WINDOW, PAGE):
        fields = _decode(window[offset : offset + PAGE])
        if fields is None or (fields["volume_id"], fields["superblock"]) != (volume_id, digest(superblock.raw)):
            continue
        if start <= fields["at"] and fields["at"] + fields["length"] <= fields["size"] <= raw.size:
            return Redo(start + offset, fields)
    return None


def begin(raw: RawDisk, superblock: Superblock, volume_id: str, changes: Iterable[tuple[int, bytes]]) -> Redo:
    """Write the record, then the log, behind the filesystem's end, which is proven blank. They are safe on return."""
    import hashlib

    pages = dict(changes)
    table = b"".join(_NUMBER.pack(offset // PAGE) for offset in pages)
    table = table.ljust(-(-len(table) // PAGE) * PAGE, b"\0")
    length = len(table) + len(pages) * PAGE
    if length > _MOST:
        raise NoRoomError(f"the log takes {length} bytes, more than {_MOST}")
    offset = _gap(pages, PAGE, _end(superblock), _end(superblock) + _WINDOW)
    at = _gap(pages, length, offset + PAGE, raw.size - PAGE)
    body = table + b"".join(page.ljust(PAGE, b"\0") for page in pages.values())
    fields: Fields = {
        "volume_id": volume_id,
        "size": raw.size,
        "superblock": digest(superblock.raw),
        "at": at,
        "length": length,
        "count": len(pages),
        "digest": hashlib.sha256(body).hexdigest(),
    }
    raw.write(offset, _encode(fields))
    raw.sync()
    for start in range(0, length, CHUNK):
        raw.write(at + start, body[start : start + CHUNK])
    raw.sync()
    return Redo(offset, fields)


def carry_out(raw: RawDisk, one: Redo, pages: Mapping[int, bytes]) -> None:
    """Write the log's pages into place, the one with the superblock last, and remove the log."""
    for offset, data in _runs({offset: page for offset, page in pages.items() if offset}):
        raw.write(offset, data[: max(0, one.fields["size"] - offset)])
    raw.sync()
    raw.write(0, pages[0])
    raw.sync()
    remove(raw, one)


def remove(raw: RawDisk, one: Redo) -> None:
    """Remove the log, then the record."""
    raw.zero(one.fields["at"], one.fields["length"])
    raw.sync()
    raw.zero(one.offset, PAGE)
    raw.sync()


def _end(superblock: Superblock) -> int:
    """The first whole page behind the filesystem."""
    return int(-(-superblock.size // PAGE) * PAGE)


def _gap(pages: Iterable[int], length: int, start: int, end: int) -> int:
    """Where `length` bytes fit between pages, from `start` on and before `end`."""
    place = start
    for page in sorted(one for one in pages if one >= start):
        if page - place >= length:
            break
        place = page + PAGE
    if place + length > end:
        raise NoRoomError(f"no {length} bytes are free from byte {start} to {end}")
    return place


def _runs(pages: Mapping[int, bytes]) -> Iterator[tuple[int, bytes]]:
    """The pages, those joined that follow each other, at most 1 MiB."""
    start, data = 0, b""
    for offset in sorted(pages):
        if data and (offset != start + len(data) or len(data) >= CHUNK):
            yield start, data
            data = b""
        if not data:
            start = offset
        data += pages[offset]
    if data:
        yield start, data


def _encode(fields: Fields) -> bytes:
    import hashlib
    import json

    text = json.dumps(fields, sort_keys=True).encode()
    return (_HEADER.pack(_MAGIC, len(text), hashlib.sha256(text).digest()) + text).ljust(PAGE, b"\0")


def _decode(block: bytes) -> Fields | None:
    """The record's fields; None for anything that _encode() wouldn't write."""
    if block[: len(_MAGIC)] != _MAGIC:
        return None
    import hashlib
    import json

    _, length, told = _HEADER.unpack_from(block)
    text = block[_HEADER.size : _HEADER.size + length]
    if hashlib.sha256(text).digest() != told:
        return None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or {name: type(value) for name, value in fields.items()} != _FIELDS:
        return None
    found: Fields = fields  # type: ignore[assignment]
    return found if _encode(found) == block and _sound(found) else None


def _sound(fields: Fields) -> bool:
    """Whether its numbers can be: whole pages, and room for each page's number."""
    table = fields["length"] - fields["count"] * PAGE
    whole = fields["at"] % PAGE == fields["length"] % PAGE == 0
    return whole and fields["count"] > 0 and fields["count"] * _NUMBER.size <= table <= fields["length"] <= _MOST
