"""Objects of the API, as they are wanted and as they were found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from protokube.core.pki.model import KUBERNETES, CertificateWanted
from protokube.core.steps import Findings

if TYPE_CHECKING:
    from protokube.core.objects.serving import ServingRequest, Verdict

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

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


def key_of(manifest: Manifest) -> ObjectKey:
    """The key of a manifest."""
    metadata = manifest["metadata"]
    return ObjectKey(manifest["apiVersion"], manifest["kind"], metadata["name"], metadata.get("namespace", ""))


class ObjectWanted(Struct, frozen=True):
    """An object's fields that protokube sets, and why. `only_present`: another program makes the object."""

    manifest: Manifest
    reason: str
    only_present: bool = False

    @property
    def key(self) -> ObjectKey:
        """What it is called."""
        return key_of(self.manifest)


class ObjectFacts(Struct, frozen=True):
    """What the API server has told. `asked`: it was asked in this reconcile. `not_ready`: why it could not answer.

    `found` are the objects that are wanted, None where there is none. `ca`: the certificates of the API server's
    authorities, in base64. `requests` are those for serving certificates that nobody has decided; where there are
    any, `nodes` are the addresses that each node claims, and `reserved` those of
    services and of all API servers.
    """

    asked: bool = False
    not_ready: str | None = None
    found: Mapping[ObjectKey, Manifest | None] = {}
    ca: str = ""
    requests: tuple[ServingRequest, ...] = ()
    nodes: Mapping[str, tuple[str, ...]] = {}
    reserved: frozenset[str] = frozenset()


class ObjectsAssessment(Struct, frozen=True):
    """The judgement. `wanted` are the objects to ask for; `apply` are those that differ, each with a reason;
    `decide` are verdicts on requests, by the request's name."""

    wanted: tuple[ObjectWanted, ...] = ()
    apply: tuple[ObjectWanted, ...] = ()
    decide: Mapping[str, Verdict] = {}
    findings: Findings = field(default_factory=Findings)
