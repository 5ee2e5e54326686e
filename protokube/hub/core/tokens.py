"""One-time tokens: how they are spelled, and who may use one.

A token also pins the hub's authority, so that a node never sends the secret to another hub.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from msgspec import Struct, structs

from protokube.core.model import Fault

LIFE = 3600.0
LONGEST_LIFE = 86400.0
"""Seconds until a token expires: by default, and at most."""
WRONG_SECRETS = 5
"""So many wrong secrets void a token."""
SECRET_BYTES = 16
ID_BYTES = 5

_TOKEN = re.compile(r"nk1\.([a-z2-7]{8})\.([a-z2-7]{26})\.([-_A-Za-z0-9]{43})")


class Token(Struct, frozen=True):
    """A token as its holder has it. `pin` is the SHA-256 of the authority's public key (its SPKI)."""

    id: str
    secret: str
    pin: bytes

    def __repr__(self) -> str:
        return f"Token({self.id}, …)"  # a secret is never logged

    def text(self) -> str:
        """The token as it is handed over."""
        return f"nk1.{self.id}.{self.secret}.{spelled(self.pin)}"


class KeptToken(Struct, frozen=True):
    """A token as the hub keeps it: without its secret.

    `used_by` is the public key (its SPKI's SHA-256, hex) that was enrolled with it. `replace`: a node that is
    enrolled already may be enrolled anew.
    """

    id: str
    digest: str
    node: str
    groups: tuple[str, ...]
    expires: float
    replace: bool = False
    wrong: int = 0
    used_by: str | None = None


class TokenRefused(Struct, frozen=True):
    """Why a token isn't taken. `counts`: it was a wrong secret. `status` is HTTP's."""

    status: int
    reason: str
    counts: bool = False


class TokenTaken(Struct, frozen=True):
    """The token holds. `again`: it was used before by the same key, whose certificate is the answer."""

    again: bool


def make_token(id_bytes: bytes, secret_bytes: bytes, pin: bytes) -> Token:
    """A token of random bytes: 5 for its id, 16 for its secret."""
    assert (len(id_bytes), len(secret_bytes), len(pin)) == (ID_BYTES, SECRET_BYTES, 32)
    return Token(_base32(id_bytes), _base32(secret_bytes), pin)


def spelled(pin: bytes) -> str:
    """An authority's pin as text: what one hub's commands are told from another's by."""
    return base64.urlsafe_b64encode(pin).decode().rstrip("=")


def read_token(text: str) -> Token | Fault:
    """Read a token. A fault never holds what was given: it may be most of a secret."""
    found = _TOKEN.fullmatch(text.strip())
    if found is None:
        return Fault("token", "it has another form than nk1.<id>.<secret>.<pin>; copy it whole, or make a new one")
    return Token(found[1], found[2], base64.urlsafe_b64decode(found[3] + "="))


def digest(secret: str) -> str:
    """What the hub keeps of a secret. 128 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def judge_token(kept: KeptToken | None, secret: str, node: str, key: str, now: float) -> TokenTaken | TokenRefused:
    """Whether a token enrols this node with this key at a time of the hub's clock."""
    if kept is None:
        return TokenRefused(403, "token: the hub doesn't know it; make a new one: protokube-hub token NODE")
    if kept.wrong >= WRONG_SECRETS:
        return TokenRefused(403, f"token {kept.id}: void after {kept.wrong} wrong secrets; make a new one")
    if not hmac.compare_digest(digest(secret), kept.digest):
        left = WRONG_SECRETS - kept.wrong - 1
        return TokenRefused(403, f"token {kept.id}: wrong secret; {left} tries are left", counts=True)
    # Told only to who knows the secret: whose token it is, is nobody else's business.
    if now >= kept.expires:
        return TokenRefused(403, f"token {kept.id}: expired {now - kept.expires:.0f} s ago; make a new one")
    if node != kept.node:
        return TokenRefused(403, f"token {kept.id}: it is for node {kept.node}, and not for {node}")
    if kept.used_by is not None and kept.used_by != key:
        reason = f"token {kept.id}: used already, with another key; if that wasn't this node, revoke {node}"
        return TokenRefused(409, reason)
    return TokenTaken(again=kept.used_by is not None)


def counted(kept: KeptToken) -> KeptToken:
    """The token after one more wrong secret."""
    return structs.replace(kept, wrong=kept.wrong + 1)


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()
