"""JSON that others wrote into Redis: whatever its bytes are, it is a value or a fault."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from protokube.core.model import Fault

Value = TypeVar("Value")


def read_foreign(raw: bytes, kind: type[Value], what: str) -> Value | Fault:
    """Read bytes as a value of this kind; the fault's place is `what`.

    msgspec skips keys that it doesn't know without looking at their text, so all bytes are decoded first. It raises
    RecursionError for JSON nested too deeply.
    """
    try:
        return msgspec.json.decode(raw.decode(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Fault(what, str(error))


def text_of(raw: bytes) -> str | None:
    """A name or a field of Redis's as text, None for bytes that are no text: no program of ours wrote them."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
