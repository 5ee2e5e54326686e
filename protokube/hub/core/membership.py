"""A node's certificates at the hub: which is in force, who may renew, and how a copied key shows itself.

While a renewal is under way two certificates are in force. With the first use of the new one the old one is dead.
"""

from __future__ import annotations

import math
from enum import StrEnum

from msgspec import Struct, structs

LEEWAY = 300.0
"""Seconds that two clocks may differ. A certificate begins so long before it is issued."""
RENEW_GRACE = 30 * 86400.0
"""Seconds after its end in which a certificate may still be renewed, and nothing else."""


class Standing(StrEnum):
    """How the hub stands to a node."""

    ENROLLED = "enrolled"
    EVICTED = "evicted"
    """Out; a new token lets it in."""
    BANNED = "banned"
    """Out; no token lets it in."""
    CLONED = "cloned"
    """Two machines had its key: out, until a new token lets one of them in."""


class Issued(Struct, frozen=True):
    """One certificate: serial (hex), key (its SPKI's SHA-256, hex), PEM, and its times."""

    serial: str
    key: str
    pem: str
    begins: float
    ends: float


class Member(Struct, frozen=True):
    """A node as the hub knows it. `next` is a renewed certificate that nobody has shown yet."""

    node: str
    groups: tuple[str, ...]
    since: float
    current: Issued
    next: Issued | None = None
    standing: Standing = Standing.ENROLLED
    reason: str = ""


class Shut(Struct, frozen=True):
    """A node isn't served. `rule` names why in one word, such as `renew`, `superseded`, `banned` or `clock`."""

    rule: str
    reason: str


class Same(Struct, frozen=True):
    """A renewal that was answered already: the answer is given again."""

    issued: Issued


class Renews(Struct, frozen=True):
    """A certificate may be issued; `member` is the node as it is before that."""

    member: Member


class Cloned(Struct, frozen=True):
    """Two machines have the node's key. `member` is out from now on."""

    member: Member
    reason: str


def admit(member: Member | None, serial: str, now: float) -> Member | Shut:
    """Judge a certificate that a link shows; the member afterwards. Any use of a new certificate ends the old one."""
    if member is None:
        return Shut("unknown", "the hub has no such node; enrol it with a new token")
    if (out := _out(member)) is not None:
        return out
    shown = _shown(member, serial)
    if shown is None:
        return Shut("superseded", f"certificate {serial} isn't in force any more: a newer one was used")
    if now < shown.begins - LEEWAY:
        return Shut("clock", f"the certificate begins {shown.begins - now:.0f} s from now, by the hub's clock")
    if now >= shown.ends:
        return Shut("renew", f"the certificate ended {now - shown.ends:.0f} s ago; renew it")
    return _used(member, shown)


class Shows(Struct, frozen=True):
    """The certificate over which a renewal is asked for: its serial, and when it begins."""

    serial: str
    begins: float


def judge_renewal(
    member: Member | None, shows: Shows, key: str, now: float, grace: float = RENEW_GRACE
) -> Renews | Same | Cloned | Shut:
    """Judge a renewal over a certificate for a new public key."""
    if member is None:
        return Shut("unknown", "the hub has no such node; enrol it with a new token")
    if (out := _out(member)) is not None:
        return out
    shown = _shown(member, shows.serial)
    if shown is None:
        return _not_in_force(member, shows)
    if now >= shown.ends + grace:
        days = (now - shown.ends) / 86400
        return Shut(
            "expired", f"the certificate ended {days:.0f} days ago; make a new token and enrol the node again"
        )
    if now < shown.begins - LEEWAY:
        return Shut("clock", f"the certificate begins {shown.begins - now:.0f} s from now, by the hub's clock")
    member = _used(member, shown)
    if member.next is not None and member.next.key == key:
        return Same(member.next)
    if key == member.current.key:
        return Shut("key", "a renewal needs a new key, and this one has the old one")
    return Renews(member)


def renewed(member: Member, issued: Issued) -> Member:
    """The member after a renewal: the new certificate waits for its first use, in place of one that never had it."""
    return structs.replace(member, next=issued)


def judge_enrolment(member: Member | None, node: str, *, replace: bool) -> Shut | None:
    """Whether a name is free for a new enrolment; None when it is. Times are the hub's."""
    if member is None or member.standing in (Standing.EVICTED, Standing.CLONED):
        return None
    if member.standing is Standing.BANNED:
        return Shut("banned", f"{node} is banned: {member.reason}; no token lets it in")
    if not replace:
        remedy = f"if its machine was installed anew: protokube-hub token {node} --replace"
        return Shut("taken", f"{node} is enrolled since {member.since:.0f}; {remedy}")
    return None


def expelled(member: Member, standing: Standing, reason: str) -> Member:
    """The member after it was evicted or banned."""
    return structs.replace(member, standing=standing, reason=reason)


def _out(member: Member) -> Shut | None:
    match member.standing:
        case Standing.ENROLLED:
            return None
        case Standing.BANNED:
            return Shut("banned", f"{member.node} is banned: {member.reason}")
        case Standing.EVICTED:
            return Shut("evicted", f"{member.node} is evicted: {member.reason}; a new token lets it in again")
        case Standing.CLONED:
            return Shut("cloned", f"{member.node}: {member.reason}; a new token lets one of them in")


def _shown(member: Member, serial: str) -> Issued | None:
    return next((one for one in (member.current, member.next) if one is not None and one.serial == serial), None)


def _not_in_force(member: Member, shows: Shows) -> Cloned | Shut:
    """What a certificate tells that was the node's once. It begins by whole seconds."""
    if shows.begins < math.floor(member.since - LEEWAY):
        reason = f"{member.node} was enrolled anew since, on another machine or with other keys"
        return Shut("replaced", f"certificate {shows.serial}: {reason}")
    if shows.begins > max(one.begins for one in (member.current, member.next) if one is not None):
        reason = "it is newer than what the hub knows: the hub's database was put back"
        return Shut("ahead", f"certificate {shows.serial}: {reason}; enrol with a token of --replace")
    # A node drops its old key once the new certificate works. Who still has it, has copied it.
    reason = f"certificate {shows.serial} was renewed and its successor used: two machines have the key"
    return Cloned(structs.replace(member, standing=Standing.CLONED, reason=reason), reason)


def _used(member: Member, shown: Issued) -> Member:
    return structs.replace(member, current=shown, next=None) if shown == member.next else member
