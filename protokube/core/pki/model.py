"""Certificates and authorities, as they are wanted and as they were found. Nothing here holds a private key."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from protokube.core.model import Unknown
from protokube.core.steps import Findings

PKI_DIR = "/var/lib/protokube/pki"
"""Where a node's certificates are: `<name>/{tls.crt,tls.key,ca.crt}`, without the root prefix."""

CURRENT = "current"
"""In a certificate's own directory: the link to the files that count."""

DAY = 86400.0
LEAF_LIFE = 365 * DAY
AUTHORITY_LIFE = 3652 * DAY
BACKDATED = 300.0
"""Seconds by which a certificate begins before it is issued: clocks of other nodes may be behind."""

KUBERNETES = "kubernetes"
FRONT_PROXY = "front-proxy"
ETCD_CLIENTS = "etcd-clients"
TOKENS = "service-account"
"""The keys that sign service-account tokens. They are kept beside the authorities, and known like one."""

NO_END = 253402300799.0
"""The end of what never ends: the last second of 9999, as X.509 spells it (RFC 5280)."""


def directory_of(name: str) -> str:
    """A certificate's own directory, below PKI_DIR: with it a pod sees this certificate, and no other."""
    return f"{name}.d"


def etcd_peers(cluster: str) -> str:
    """The authority of an etcd cluster's peers."""
    return f"etcd-peers-{cluster}"


class Material(StrEnum):
    """What a directory holds: a certificate that is issued, an authority itself, the certificates of one to trust, or
    the keys of tokens."""

    LEAF = "leaf"
    AUTHORITY = "authority"
    TRUST = "trust"
    TOKEN_KEYS = "token-keys"


FILES: Mapping[Material, tuple[str, ...]] = {
    Material.LEAF: ("tls.crt", "tls.key", "ca.crt"),
    Material.AUTHORITY: ("tls.crt", "tls.key", "ca.crt"),
    Material.TRUST: ("ca.crt",),
    Material.TOKEN_KEYS: ("signing.key", "public.pem"),
}
"""The files of a directory."""


class CertificateWanted(Struct, frozen=True):
    """A certificate that a node needs, in a directory of its `name`. `addresses` are IP addresses, as texts.

    What isn't a leaf is a copy from the store: it is written again when the store's changes.
    """

    name: str
    authority: str
    common_name: str
    organizations: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    server: bool = False
    client: bool = False
    material: Material = Material.LEAF


class Certificate(Struct, frozen=True, tag=True):
    """A certificate that stands in its directory, with its key. Times are seconds since the epoch.

    `wanted` is the request that it was issued for. `issuer` is its authority's id, `issuer_ends` that one's end;
    `trusted` are the ids of all authorities in its ca.crt.
    """

    wanted: CertificateWanted
    serial: str
    begins: float
    ends: float
    issuer: str
    issuer_ends: float
    trusted: tuple[str, ...]


class Damaged(Struct, frozen=True, tag=True):
    """A directory whose files don't belong together, or are missing; and why."""

    reason: str


class Stage(StrEnum):
    """Where an authority's rotation stands; see rotation.py."""

    STEADY = "steady"
    BUNDLE = "bundle"
    REISSUE = "reissue"


class Authority(Struct, frozen=True):
    """The public side of an authority. `id` is that of the certificate that issues now, `trusted` are the ids of all
    that are trusted, that one first; `begins` and `ends` are its first and last moment."""

    id: str
    ends: float
    trusted: tuple[str, ...]
    stage: Stage = Stage.STEADY
    begins: float = 0.0


class NoAuthorities(Struct, frozen=True, tag=True):
    """The store says that there is no PKI yet."""


class Authorities(Struct, frozen=True, tag=True):
    """The cluster's authorities, by name."""

    known: Mapping[str, Authority]


class Unreadable(Unknown, frozen=True, tag=True):
    """A store that could not be read, by the rule that its error bears."""

    rule: str


class PkiFacts(Struct, frozen=True):
    """The facts of the PKI.

    `certificates` are those in the node's directory, by name; an absent one is left out. None: not read yet.
    `authorities` is None until something asks for them: then the store is read. `clock_in_sync` is read with them,
    unless the operator answers for the clock.
    """

    certificates: Mapping[str, Certificate | Damaged | Unknown] | Unknown | None = None
    authorities: Authorities | NoAuthorities | Unknown | None = None
    clock_in_sync: bool | Unknown = False


class PkiSettings(Struct, frozen=True):
    """The operator's settings. `trust_clock`: the operator answers for the clock, in sync or not."""

    trust_clock: bool = False


class Wish(Struct, frozen=True):
    """A certificate to issue, and why."""

    wanted: CertificateWanted
    reason: str


class PkiAssessment(Struct, frozen=True):
    """The judgement of a node's certificates.

    `missing` are authorities to make; `first`: the cluster has none yet. `issue` are certificates to issue. `usable`
    are those that may be used, by name. `asks`: the store is to be read. `cluster` is the cluster's id.
    """

    cluster: str
    wanted: tuple[CertificateWanted, ...] = ()
    missing: tuple[str, ...] = ()
    first: bool = False
    issue: tuple[Wish, ...] = ()
    usable: Mapping[str, Certificate] = {}
    asks: bool = False
    findings: Findings = field(default_factory=Findings)

    @property
    def ready(self) -> frozenset[str]:
        """The names of the certificates that may be used."""
        return frozenset(self.usable)
