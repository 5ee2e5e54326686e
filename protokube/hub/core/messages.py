"""The frames between hub and node: JSON texts of at most 256 KiB, each with its `type`.

Unknown fields are ignored, since the two ends are updated one after the other; in a command's arguments they aren't.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from protokube.core.model import KIB, Fault
from protokube.hub.core.audit import Head
from protokube.hub.core.verbs import CommandId

LARGEST = 256 * KIB
"""Bytes of a frame."""
CHUNK = 32 * KIB
"""Bytes of text in one event: escaped as JSON it is six times as long at most, and still fits into a frame."""
PING, DEAD = 20.0, 45.0
"""Seconds between pings, and after which a silent link is dead."""
RENEW, SUPERSEDED, EXPELLED = 4001, 4002, 4003
"""Codes of a closed link: renew the certificate; a newer link or certificate took its place; out."""

Seq = Annotated[int, Meta(ge=0, lt=1 << 53)]
Time = Annotated[float, Meta(ge=0, lt=1e12)]
EventKind = Literal["accepted", "refused", "started", "progress", "log", "done"]


class HubHello(Struct, frozen=True, tag_field="type", tag="hello", omit_defaults=True):
    """The hub's first frame. `seen`: the last event it has of each unfinished command of this node."""

    session: str
    hub_time: Time
    audit: Head = field(name="audit_head")
    seen: dict[str, Seq] = {}
    bundle: str | None = None


class Send(Struct, frozen=True, tag_field="type", tag="cmd", omit_defaults=True):
    """A command. `body` is JSON text, and what is signed are these very characters."""

    body: str
    sent_by: str
    key: str | None = None
    sig: str | None = None


class Cancel(Struct, frozen=True, tag_field="type", tag="cancel"):
    """Don't start this command; one that is being watched is undone."""

    id: CommandId


class Ack(Struct, frozen=True, tag_field="type", tag="ack"):
    """The hub has kept this command's events up to this one."""

    id: CommandId
    seq: Seq


class NodeHello(Struct, frozen=True, tag_field="type", tag="hello", omit_defaults=True):
    """The node's first frame. `running`: commands that run or wait; `done`: ended ones that the hub asks for.

    `audit`: the end of the hub's audit as it was at the link before.
    """

    node: str
    boot_id: str
    version: str
    policy: str
    verbs: tuple[str, ...] = ()
    facts: dict[str, str] = {}
    running: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    held: bool = False
    audit: Head = Head()


class Event(Struct, frozen=True, tag_field="type", tag="event"):
    """What became of a command. `seq` counts from 1 in each; 0 is a frame that was refused and is no part of it."""

    id: str
    seq: Seq
    kind: EventKind
    at: Time
    data: dict[str, Any] = {}


FromHub = HubHello | Send | Cancel | Ack
FromNode = NodeHello | Event


def encode(message: FromHub | FromNode) -> str:
    """A frame. One that is too large is a bug of the sender's: whoever makes events cuts them at CHUNK."""
    frame = msgspec.json.encode(message)
    if len(frame) > LARGEST:
        raise ValueError(f"{type(message).__name__}: a frame of {len(frame)} bytes; at most {LARGEST} were expected")
    return frame.decode()


def from_hub(frame: str | bytes) -> FromHub | Fault:
    """Read a frame of the hub's."""
    read: FromHub | Fault = _decode(frame, FromHub)
    return read


def from_node(frame: str | bytes) -> FromNode | Fault:
    """Read a frame of a node's."""
    read: FromNode | Fault = _decode(frame, FromNode)
    return read


def chunks(text: str) -> list[str]:
    """A text in pieces of at most CHUNK bytes."""
    pieces = []
    data = text.encode("utf-8", "replace")
    while data:
        end = min(CHUNK, len(data))
        # No character is cut: back to the first byte of one (10xxxxxx are the others).
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(data[:end].decode())
        data = data[end:]
    return pieces


def _decode(frame: str | bytes, kind: Any) -> Any:
    # Characters are never more than bytes: a long text is refused before it is encoded.
    if len(frame) > LARGEST:
        return Fault("frame", f"at most {LARGEST} bytes were expected, got {len(frame)}")
    try:
        data = frame.encode() if isinstance(frame, str) else frame
        if len(data) > LARGEST:
            return Fault("frame", f"at most {LARGEST} bytes were expected, got {len(data)}")
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return Fault("frame", str(error))
