"""The action that applies an object."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, Self

from msgspec.json import decode, encode
from msgspec.structs import replace

from protokube.core.action import ActionValue, Facet
from protokube.core.objects.model import Manifest, ObjectFacts, ObjectKey, key_of


class ObjectWriter(Protocol):
    """The acting half of the API server."""

    def apply(self, manifest: Manifest) -> None:
        """Let an object have these fields, made if it is missing. Other owners' fields are left alone."""

    def decide(self, request: str, *, approve: bool, reason: str) -> None:
        """Approve or deny a request for a certificate. One that another node has decided meanwhile is no error."""


class ApplyObject(ActionValue, frozen=True, tag="apply-object"):
    """Apply an object by the API server's own merge: to do it twice changes nothing."""

    port: ClassVar[str] = "objects"
    facts: ClassVar[str] = "objects"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.OBJECTS})
    key: ObjectKey
    text: str
    """The manifest as JSON: a plan's actions are compared, and count in sets."""

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """The action that applies a manifest."""
        return cls(key_of(manifest), encode(manifest, order="deterministic").decode())

    @property
    def manifest(self) -> Manifest:
        """What is applied."""
        return decode(self.text, type=dict[str, Any])

    @property
    def subject(self) -> str:
        """The object."""
        return str(self.key)

    def describe(self) -> str:
        """One line for people."""
        return f"apply {self.subject}"

    def predict(self, facts: ObjectFacts, now: float) -> ObjectFacts:
        """It is there, with these fields."""
        del now
        return replace(facts, found={**facts.found, self.key: self.manifest})

    def execute(self, port: ObjectWriter) -> None:
        """Apply it."""
        port.apply(self.manifest)


class DecideRequest(ActionValue, frozen=True, tag="decide-request"):
    """Approve or deny a kubelet's request for a serving certificate."""

    port: ClassVar[str] = "objects"
    facts: ClassVar[str] = "objects"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.OBJECTS})
    request: str
    approve: bool
    reason: str

    @property
    def subject(self) -> str:
        """The request."""
        return f"request {self.request}"

    def describe(self) -> str:
        """One line for people."""
        return f"{'approve' if self.approve else 'deny'} the request {self.request} for a serving certificate"

    def predict(self, facts: ObjectFacts, now: float) -> ObjectFacts:
        """It is decided."""
        del now
        return replace(facts, requests=tuple(one for one in facts.requests if one.name != self.request))

    def execute(self, port: ObjectWriter) -> None:
        """Decide it."""
        port.decide(self.request, approve=self.approve, reason=self.reason)
