"""The action that applies an object."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, Self

from msgspec.json import decode, encode
from msgspec.structs import replace

from protokube.core.action import ActionValue, Facet
from protokube.core.objects.channels import applied, removed
from protokube.core.objects.model import Lease, Manifest, ObjectFacts, ObjectKey, key_of
from protokube.core.objects.requests import Claim


class ObjectWriter(Protocol):
    """The acting half of the API server."""

    def apply(self, manifest: Manifest, owner: str) -> None:
        """Let an object have these fields, made if it is missing, owned by `owner`. Other owners' fields are left
        alone."""

    def remove(self, key: ObjectKey, owner: str) -> None:
        """Remove an object of which `owner` owns fields; one that is gone is fine."""

    def take_lease(self, node: str) -> None:
        """Take the lease for addons, or renew it, unless another node has it."""

    def decide(self, action: DecideRequest) -> None:
        """Approve or deny a request for a certificate. One that was decided meanwhile is no error, nor is one that is
        gone, or that another of the same name has followed."""


class ApplyObject(ActionValue, frozen=True, tag="apply-object"):
    """Apply an object by the API server's own merge: to do it twice changes nothing."""

    port: ClassVar[str] = "objects"
    facts: ClassVar[str] = "objects"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.OBJECTS})
    key: ObjectKey
    text: str
    """The manifest as JSON: a plan's actions are compared, and count in sets."""
    owner: str = "protokube"

    @classmethod
    def of(cls, manifest: Manifest, owner: str = "protokube") -> Self:
        """The action that applies a manifest."""
        return cls(key_of(manifest), encode(manifest, order="deterministic").decode(), owner)

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
        channels = applied(facts.channels, self.key, self.manifest)
        return replace(facts, found={**facts.found, self.key: self.manifest}, channels=channels)

    def execute(self, port: ObjectWriter) -> None:
        """Apply it."""
        port.apply(self.manifest, self.owner)


class RemoveObject(ActionValue, frozen=True, tag="remove-object"):
    """Remove an object that an addon channel has applied and has no more."""

    port: ClassVar[str] = "objects"
    facts: ClassVar[str] = "objects"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.OBJECTS})
    key: ObjectKey
    owner: str

    @property
    def subject(self) -> str:
        """The object."""
        return str(self.key)

    def describe(self) -> str:
        """One line for people."""
        return f"remove {self.subject} from the cluster"

    def predict(self, facts: ObjectFacts, now: float) -> ObjectFacts:
        """It is gone."""
        del now
        return replace(facts, channels=removed(facts.channels, self.key))

    def execute(self, port: ObjectWriter) -> None:
        """Remove it."""
        port.remove(self.key, self.owner)


class TakeLease(ActionValue, frozen=True, tag="take-lease"):
    """Take the lease for addons: one node writes at a time."""

    port: ClassVar[str] = "objects"
    facts: ClassVar[str] = "objects"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.OBJECTS})
    node: str

    @property
    def subject(self) -> str:
        """The lease."""
        return "lease for addons"

    def describe(self) -> str:
        """One line for people."""
        return f"take the {self.subject}"

    def predict(self, facts: ObjectFacts, now: float) -> ObjectFacts:
        """This node has it."""
        del now
        return replace(facts, lease=Lease(self.node, True))

    def execute(self, port: ObjectWriter) -> None:
        """Take it."""
        port.take_lease(self.node)


class DecideRequest(ActionValue, frozen=True, tag="decide-request"):
    """Approve or deny a kubelet's request for a certificate. `uid` tells it from others of the same name.
    `claim`: the node's name, which is kept first."""

    port: ClassVar[str] = "objects"
    facts: ClassVar[str] = "objects"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.OBJECTS})
    request: str
    uid: str
    approve: bool
    reason: str
    claim: Claim | None = None

    @property
    def subject(self) -> str:
        """The request."""
        return f"request {self.request}"

    @property
    def lock(self) -> str:
        """All requests: their names are kept in one object."""
        return "requests"

    def describe(self) -> str:
        """One line for people."""
        return f"{'approve' if self.approve else 'deny'} the request {self.request} for a certificate"

    def predict(self, facts: ObjectFacts, now: float) -> ObjectFacts:
        """It is decided."""
        del now
        return replace(facts, requests=tuple(one for one in facts.requests if one.name != self.request))

    def execute(self, port: ObjectWriter) -> None:
        """Decide it."""
        port.decide(self)
