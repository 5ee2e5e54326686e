"""What a node asks of a command before it takes it, in one order. A refusal names the check.

JSON · verb · args · nodes · deadline · id · policy · signature · lock
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from protokube.core.model import KIB, Fault
from protokube.hub.core.membership import LEEWAY
from protokube.hub.core.names import is_id
from protokube.hub.core.verbs import VERBS, Arguments, ConfigConfirm, Verb, read_arguments

LONGEST = 3600.0
"""Seconds between a command's issue and its deadline, at most."""
READS, QUEUE = 4, 16
"""Reads at once, and reads that wait."""
LARGEST_BODY = 120 * KIB
"""Bytes of a body: as a text in a frame it may be twice as long."""


class Mode(StrEnum):
    """What suffices to change a node."""

    READ_ONLY = "read-only"
    SIGNED = "signed"
    HUB = "hub"


class Refusal(Struct, frozen=True):
    """Why a command isn't taken. `id` is its own, empty where it can't be read."""

    check: str
    faults: tuple[Fault, ...]
    id: str = ""


class Body(Struct, frozen=True, forbid_unknown_fields=True):
    """A command as it was issued. `nodes`: for whom it is; times are the hub's.

    `hub`: whose nodes these are, by the pin of that hub's authority. Without it a signature doesn't count: another
    hub may have nodes of the same names.
    """

    id: str
    nodes: tuple[str, ...]
    verb: str
    args: dict[str, Any]
    issued: float
    deadline: float
    hub: str | None = None


class Unsigned(Struct, frozen=True):
    """No signature that counts, and why."""

    reason: str


class Order(Struct, frozen=True):
    """A command that is taken. `signer`: the name of the key that signed it, empty where none was needed."""

    body: Body
    verb: Verb
    arguments: Arguments
    signer: str


class Me(Struct, frozen=True):
    """Who a node is: its name, and the pin of the authority that it was enrolled by."""

    node: str
    hub: str


class Situation(Struct, frozen=True):
    """What a node knows when it judges a command.

    `now`: by the hub's clock. `able`: verbs that this node has. `known`: the digest of the body that had this id
    before. `signer`: the listed key whose signature holds. `changing`: the command that changes the node right now.
    """

    me: Me
    now: float
    able: frozenset[str]
    mode: Mode
    signer: str | Unsigned
    known: str | None = None
    changing: str | None = None
    reading: int = 0
    waiting: int = 0


def digest(body: str) -> str:
    """What tells one body from another."""
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


def read_body(text: str) -> Body | Refusal:
    """Read a command: the first check."""
    try:
        data = text.encode()
        if len(data) > LARGEST_BODY:
            return _refuse("json", "", Fault("body", f"at most {LARGEST_BODY} bytes were expected, got {len(data)}"))
        body = msgspec.json.decode(data, type=Body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return _refuse("json", "", Fault("body", str(error)))
    if not is_id(body.id):
        return _refuse("json", "", Fault("id", f"a UUID in lower case was expected, got {body.id[:64]!r}"))
    return body


def judge(body: Body, text: str, situation: Situation) -> Order | Refusal:
    """The other checks, in their order. The same command once more isn't judged: it is answered from its record."""
    verb = VERBS.get(body.verb)
    if verb is None or verb.name not in situation.able:
        known = ", ".join(sorted(situation.able))
        return _refuse("verb", body.id, Fault("verb", f"this node has {known}; got {body.verb[:64]!r}"))
    arguments = read_arguments(verb, body.args)
    if not isinstance(arguments, Arguments):
        return Refusal("args", arguments, body.id)
    if (elsewhere := _elsewhere(body, situation.me)) is not None:
        return _refuse("nodes", body.id, elsewhere)
    if faults := _times(body, situation.now):
        return Refusal("deadline", faults, body.id)
    if situation.known is not None and situation.known != digest(text):
        return _refuse("id", body.id, Fault("id", f"{body.id} was another command before; give each its own id"))
    if not verb.changes:
        return _with_room(Order(body, verb, arguments, ""), situation)
    if situation.mode is Mode.READ_ONLY:
        remedy = "policy: signed and the keys that may, in its nokubelet.yaml, would allow it"
        return _refuse(
            "policy", body.id, Fault("policy", f"{verb.name} changes the node, which is read-only; {remedy}")
        )
    signer = _counting(body, situation.signer)
    if situation.mode is Mode.SIGNED and isinstance(signer, Unsigned):
        return _refuse("signature", body.id, Fault("signature", signer.reason))
    if situation.changing is not None and not _settles(arguments, situation.changing):
        return _refuse("lock", body.id, Fault("lock", f"busy: command {situation.changing} is changing the node"))
    return Order(body, verb, arguments, "" if isinstance(signer, Unsigned) else signer)


def _elsewhere(body: Body, me: Me) -> Fault | None:
    """That a command is for others: another node, or one of another hub's that has this one's name."""
    if me.node not in body.nodes:
        named = ", ".join(body.nodes[:8]) or "none"
        return Fault("nodes", f"it is for {named}, and this is {me.node}")
    if body.hub is not None and body.hub != me.hub:
        return Fault("hub", f"it is for nodes of the hub {body.hub[:64]}, and this one's is {me.hub}")
    return None


def _counting(body: Body, signer: str | Unsigned) -> str | Unsigned:
    """A signature, where the signed text says for whose nodes it is: else any hub could pass it on to its own."""
    if isinstance(signer, str) and body.hub is None:
        return Unsigned(f"{signer} signed it, and it names no hub; update nokubectl, or add hub: the authority's pin")
    return signer


def _times(body: Body, now: float) -> tuple[Fault, ...]:
    faults = []
    if not 0 < body.deadline - body.issued <= LONGEST:
        faults.append(
            Fault(
                "deadline",
                f"at most {LONGEST:.0f} s after issued were expected, got {body.deadline - body.issued:.0f}",
            )
        )
    if body.issued > now + LEEWAY:
        faults.append(Fault("issued", f"it lies {body.issued - now:.0f} s in the future, by the hub's clock"))
    if now >= body.deadline:
        faults.append(Fault("deadline", f"it has passed {now - body.deadline:.0f} s ago, by the hub's clock"))
    return tuple(faults)


def _settles(arguments: Arguments, changing: str) -> bool:
    """Whether a command ends the change under way instead of being another one: the trial waits for its word."""
    return isinstance(arguments, ConfigConfirm) and arguments.command == changing


def _with_room(order: Order, situation: Situation) -> Order | Refusal:
    if situation.reading < READS or situation.waiting < QUEUE:
        return order
    return _refuse("lock", order.body.id, Fault("lock", f"busy: {READS} reads run and {QUEUE} wait"))


def _refuse(check: str, command: str, fault: Fault) -> Refusal:
    return Refusal(check, (fault,), command)
