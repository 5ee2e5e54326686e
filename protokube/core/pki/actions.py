"""The actions that make authorities and issue certificates. They name what is wanted, and carry no key."""

from __future__ import annotations

from typing import ClassVar, Protocol

from msgspec.structs import replace

from protokube.core.action import ActionValue, Facet
from protokube.core.model import Unknown
from protokube.core.pki.model import (
    AUTHORITY_LIFE,
    BACKDATED,
    LEAF_LIFE,
    NO_END,
    TOKENS,
    Authorities,
    Authority,
    Certificate,
    CertificateWanted,
    PkiFacts,
)

KNOWN_AFTER_ISSUE = "known after it is issued"


class PkiWriter(Protocol):
    """Makes authorities in the store, and issues certificates to the node's directory."""

    def make_authorities(self, action: MakeAuthorities) -> None:
        """Make the authorities that are missing. That another node has made them meanwhile is no error."""

    def issue(self, action: IssueCertificate) -> None:
        """Issue a certificate with a new key, and exchange the link to its directory."""


class MakeAuthorities(ActionValue, frozen=True, tag="make-authorities"):
    """Make authorities in the store. Of several nodes that do so at once one wins, and all use what it made.

    `first`: there is no PKI of this cluster yet.
    """

    port: ClassVar[str] = "pki"
    facts: ClassVar[str] = "pki"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.AUTHORITIES})
    cluster: str
    names: tuple[str, ...]
    first: bool

    @property
    def subject(self) -> str:
        """The cluster's authorities."""
        return f"authorities of {self.cluster}"

    def describe(self) -> str:
        """One line for people."""
        return f"make the authorities {', '.join(self.names)} of {self.cluster}"

    def predict(self, facts: PkiFacts, now: float) -> PkiFacts:
        """They are there."""
        known = facts.authorities.known if isinstance(facts.authorities, Authorities) else {}
        ends = {TOKENS: NO_END}
        made = {
            name: Authority(KNOWN_AFTER_ISSUE, ends.get(name, now + AUTHORITY_LIFE), (KNOWN_AFTER_ISSUE,))
            for name in (*self.names, TOKENS)
        }
        return replace(facts, authorities=Authorities({**made, **known}))

    def execute(self, port: PkiWriter) -> None:
        """Make them."""
        port.make_authorities(self)


class IssueCertificate(ActionValue, frozen=True, tag="issue-certificate"):
    """Issue a certificate of this node, with a new key."""

    port: ClassVar[str] = "pki"
    facts: ClassVar[str] = "pki"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.CERTIFICATES, Facet.MEMBERS})
    cluster: str
    wanted: CertificateWanted

    @property
    def subject(self) -> str:
        """The certificate's name."""
        return f"certificate {self.wanted.name}"

    def describe(self) -> str:
        """One line for people."""
        return f"issue the certificate {self.wanted.name} by {self.wanted.authority}"

    def predict(self, facts: PkiFacts, now: float) -> PkiFacts:
        """It is there."""
        authorities = facts.authorities
        assert isinstance(authorities, Authorities)
        assert facts.certificates is not None and not isinstance(facts.certificates, Unknown)
        authority = authorities.known[self.wanted.authority]
        ends = min(now + LEAF_LIFE, authority.ends)
        made = Certificate(
            self.wanted, KNOWN_AFTER_ISSUE, now - BACKDATED, ends, authority.id, authority.ends, authority.trusted
        )
        return replace(facts, certificates={**facts.certificates, self.wanted.name: made})

    def execute(self, port: PkiWriter) -> None:
        """Issue it."""
        port.issue(self)
