"""The record of a format in progress, kept on the disk itself: 4 KiB at the disk's size − 512 KiB.

It is written after the disk was proven blank and before the filesystem's first byte, and replaced by what the
filesystem has in its place as the very last. An interrupted format leaves a disk that is neither blank nor a
filesystem; the record says which filesystem was on its way there, and for whom.

Layout: magic (8 bytes), the text's length (4, little endian), its SHA-256 (32), the text (JSON), zeros.
"""

from __future__ import annotations

import struct

LENGTH = 4096
_FROM_END = 512 << 10
_MAGIC = b"PKINTENT"
_HEADER = struct.Struct("<8sI32s")
_VERSION = 2
_TEXTS = ("cluster_id", "etcd_cluster", "member", "volume_id", "uuid", "label")
_KEYS = {*_TEXTS, "size", "version"}

IntentFields = dict[str, "str | int"]
"""The fields of core.disks.model.Intent by name, and the filesystem's label."""


class IntentError(Exception):
    """There is a record, but it can't be trusted."""


def offset(size: int) -> int:
    """Where the record stands on a disk of `size` bytes: aligned down to 4 KiB."""
    return (size - _FROM_END) // LENGTH * LENGTH


def encode(fields: IntentFields) -> bytes:
    """The record, a whole block."""
    import hashlib
    import json

    text = json.dumps({**fields, "version": _VERSION}, sort_keys=True).encode()
    if len(text) > LENGTH - _HEADER.size:
        raise ValueError(f"the intent's fields take {len(text)} bytes, more than a block")
    record = _HEADER.pack(_MAGIC, len(text), hashlib.sha256(text).digest()) + text
    return record.ljust(LENGTH, b"\0")


def decode(block: bytes) -> IntentFields | None:
    """The record's fields; None when there is no record. Anything that encode() wouldn't write is a IntentError."""
    if block[: len(_MAGIC)] != _MAGIC:
        return None
    import hashlib
    import json

    _, length, digest = _HEADER.unpack_from(block)
    text = block[_HEADER.size : _HEADER.size + length]
    if len(text) != length or hashlib.sha256(text).digest() != digest:
        raise IntentError("its checksum is wrong")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IntentError(f"it is no JSON: {error}") from error
    if not isinstance(fields, dict) or fields.get("version") != _VERSION or set(fields) != _KEYS:
        raise IntentError(f"it says {text[:200]!r}, expected the fields of version {_VERSION}")
    del fields["version"]
    if any(type(fields[name]) is not str for name in _TEXTS) or type(fields["size"]) is not int:
        raise IntentError("a field has the wrong type")
    if encode(fields) != block:
        raise IntentError("something follows it in its block")
    return dict(fields)
