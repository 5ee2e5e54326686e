"""The store's object with a cluster's authorities and their private keys.

It is made once, and changed by compare-and-swap only. No value of it shows a key when it is printed.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import MsgspecError, Struct
from msgspec.json import decode, encode
from msgspec.json import format as indent

from protokube.core.model import Fault
from protokube.core.pki.model import NO_END, TOKENS, Authorities, Authority, Stage

VERSION = 1


class KeyPair(Struct, frozen=True):
    """An authority's certificate and private key, as PEM. `id` is the certificate's fingerprint. Times are seconds
    since the epoch."""

    id: str
    begins: float
    ends: float
    certificate: str
    key: str

    def __repr__(self) -> str:
        """Without the key."""
        return f"KeyPair({self.id})"


class StoredAuthority(Struct, frozen=True):
    """An authority. `active` issues; the others are only trusted: `next` before it issues, `previous` after."""

    active: KeyPair
    next: KeyPair | None = None
    previous: KeyPair | None = None

    @property
    def stage(self) -> Stage:
        """Where its rotation stands."""
        if self.next is not None:
            return Stage.BUNDLE
        return Stage.REISSUE if self.previous is not None else Stage.STEADY

    @property
    def trusted(self) -> tuple[KeyPair, ...]:
        """All that are trusted, the one that issues first."""
        return tuple(one for one in (self.active, self.next, self.previous) if one is not None)

    def public(self) -> Authority:
        """Its public side."""
        trusted = tuple(one.id for one in self.trusted)
        return Authority(self.active.id, self.active.ends, trusted, self.stage, self.active.begins)


class ServiceAccountKey(Struct, frozen=True):
    """A key for service-account tokens, as PEM."""

    id: str
    public: str
    private: str

    def __repr__(self) -> str:
        """Without the private key."""
        return f"ServiceAccountKey({self.id})"


class Document(Struct, frozen=True, forbid_unknown_fields=True):
    """The object. Of the service-account keys the first signs, and all are accepted. `distrusted` are the ids of
    authorities that were dropped."""

    version: int
    cluster: str
    authorities: Mapping[str, StoredAuthority]
    service_account: tuple[ServiceAccountKey, ...]
    distrusted: tuple[str, ...] = ()

    def public(self) -> Authorities:
        """Its public side. The keys of tokens stand beside the authorities: the first signs, all are trusted."""
        known = {name: one.public() for name, one in self.authorities.items()}
        if self.service_account:
            known[TOKENS] = Authority(
                self.service_account[0].id, NO_END, tuple(one.id for one in self.service_account)
            )
        return Authorities(known)

    def render(self) -> bytes:
        """The object's bytes."""
        return indent(encode(self), indent=1) + b"\n"


def parse_document(content: bytes, cluster: str) -> Document | Fault:
    """Read the object of a cluster. A fault names no content."""
    place = f"{cluster}/pki/v1.json"
    try:
        document = decode(content, type=Document)
    except (MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Fault(place, f"no PKI of this program: {error}; bring it back from a copy")
    if document.version != VERSION:
        return Fault(place, f"version {document.version} (expected {VERSION}); a newer protokube has made it")
    if document.cluster != cluster:
        return Fault(place, f"the PKI of {document.cluster!r} (expected {cluster!r}); correct --store or the object")
    return document
