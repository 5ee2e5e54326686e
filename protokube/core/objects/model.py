"""Objects of the API, as they are wanted and as they were found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from protokube.core.pki.model import KUBERNETES, CertificateWanted
from protokube.core.steps import Findings

if TYPE_CHECKING:
    from protokube.core.model import Unknown
    from protokube.core.objects.requests import Request, Verdict

Manifest = Mapping[str, Any]
"""An object as the API writes it; fields that nobody here knows are kept."""

CERTIFICATE = "protokube"
"""The certificate that protokube itself shows to the API server."""

BOOTSTRAPPERS = "system:bootstrappers:protokube"
"""The group of whoever shows a bootstrap token that protokube has made."""


def certificate() -> CertificateWanted:
    """The certificate that protokube shows to its node's API server. Only control-plane nodes have one."""
    return CertificateWanted(CERTIFICATE, KUBERNETES, "protokube", ("system:masters",), client=True)


class ObjectKey(Struct, frozen=True):
    """What an object is called."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""

    @property
    def object(self) -> tuple[str, str, str, str]:
        """What tells the object from others: one object shows in every version of its group."""
        group = self.api_version.rpartition("/")[0]
        return group, self.kind, self.namespace, self.name

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


def key_of(manifest: Manifest) -> ObjectKey:
    """The key of a manifest."""
    metadata = manifest["metadata"]
    return ObjectKey(manifest["apiVersion"], manifest["kind"], metadata["name"], metadata.get("namespace") or "")


class ObjectWanted(Struct, frozen=True):
    """An object's fields that protokube sets, and why. `only_present`: another program makes the object.
    `only_absent`: it is made, and then left to people."""

    manifest: Manifest
    reason: str
    only_present: bool = False
    only_absent: bool = False

    @property
    def key(self) -> ObjectKey:
        """What it is called."""
        return key_of(self.manifest)


class ChannelSource(Struct, frozen=True):
    """An addon channel: its name, and where its manifests are: a directory of this machine, or an https URL of a
    channel.yaml. `prune`: what it has no more is removed from the cluster."""

    name: str
    source: str
    prune: bool = True

    @property
    def remote(self) -> bool:
        """Whether it comes from the web."""
        return "://" in self.source


class Applied(Struct, frozen=True):
    """An object that a channel has applied, and a hash of its manifest; empty where that was only begun. `made`: it
    wasn't there before."""

    key: ObjectKey
    hash: str
    made: bool = True


class Written(Struct, frozen=True):
    """Which text of a channel was applied last, by its hash, and by which node. Empty where nobody knows."""

    text: str = ""
    node: str = ""


class ChannelFacts(Struct, frozen=True):
    """What a channel wants, what it has applied, and what of it the cluster has.

    `differing` are the wanted objects that are missing or other than wanted, `foreign` those that are there though no
    channel has applied them. `owned` are those of the record that no channel wants any more and of which this one
    still owns fields; `held` says of some why they aren't to be removed yet.

    `text` is the hash of the channel as this node reads it, `written` what the record tells of that. `unchanged`:
    this node's text was once the record's, and hasn't changed since.
    """

    name: str
    wanted: tuple[Manifest, ...] | Unknown
    record: tuple[Applied, ...] | Unknown = ()
    differing: frozenset[ObjectKey] = frozenset()
    owned: frozenset[ObjectKey] = frozenset()
    foreign: frozenset[ObjectKey] = frozenset()
    held: Mapping[ObjectKey, str] = {}
    text: str = ""
    written: Written = Written()
    unchanged: bool = False
    prune: bool = True


class ChannelStep(Struct, frozen=True):
    """A channel's next step: its record, or objects to apply and to remove."""

    channel: str
    apply: tuple[ObjectWanted, ...] = ()
    remove: tuple[ObjectKey, ...] = ()
    record: ObjectWanted | None = None


class Lease(Struct, frozen=True):
    """Who holds a lease. `alive`: it was renewed lately, as far as this node has seen."""

    holder: str = ""
    alive: bool = False


class ObjectFacts(Struct, frozen=True):
    """What the API server has told. `asked`: it was asked in this reconcile. `not_ready`: why it could not answer.

    `found` are the objects that are wanted, None where there is none. `ca`: the certificates of the API server's
    authorities, in base64. `requests` are kubelets' requests for certificates that nobody has decided, the oldest
    first. Where there are any, `nodes` are the addresses that each node claims, `control_plane` the names of the
    control plane's nodes, and `reserved` the addresses of services and of all API servers. Where machines want to
    join, `tokens` are those that hold, each with the node that it was made for; `certified`, `claimed` and `alive`
    are the names that nodes have (requests.py). `signer_age`: seconds since this node's authority that signs was
    exchanged; None where it is the first one. `channels` are the addon channels, and `lease` says who may write them.
    """

    asked: bool = False
    not_ready: str | None = None
    found: Mapping[ObjectKey, Manifest | None] = {}
    ca: str = ""
    requests: tuple[Request, ...] = ()
    nodes: Mapping[str, tuple[str, ...]] = {}
    control_plane: frozenset[str] = frozenset()
    tokens: Mapping[str, str] = {}
    certified: frozenset[str] = frozenset()
    claimed: Mapping[str, str] = {}
    alive: frozenset[str] = frozenset()
    reserved: frozenset[str] = frozenset()
    signer_age: float | None = None
    channels: tuple[ChannelFacts, ...] = ()
    lease: Lease = Lease()


class ObjectsAssessment(Struct, frozen=True):
    """The judgement. `wanted` are the objects to ask for; `apply` are those that differ, each with a reason;
    `decide` are the requests to decide, with the verdict on each. `addons` are the next steps of addon channels,
    `lease` the name under which to take the lease for them."""

    wanted: tuple[ObjectWanted, ...] = ()
    apply: tuple[ObjectWanted, ...] = ()
    decide: tuple[tuple[Request, Verdict], ...] = ()
    addons: tuple[ChannelStep, ...] = ()
    lease: str | None = None
    findings: Findings = field(default_factory=Findings)
