"""What sources, providers, runtimes and reporters fulfil.

A pod is plain JSON as it was received: unknown fields are kept, and nobody changes one that was handed over. A pod's
identity is its UID; namespace and name serve the wire. A provider may have the optional protocols below by structure.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from protokube.agent.core.expand import NOTHING, Given
from protokube.agent.core.lifecycle import ContainerId, ContainerState
from protokube.agent.core.model import Container, Json, Pod, PodStatus, Spec
from protokube.agent.core.references import File
from protokube.core.model import Fault, Unknown
from protokube.errors import ProtokubeError, ProviderError

__all__ = ["Json", "Pod", "PodStatus", "ProviderError"]


class NotFoundError(ProtokubeError):
    """The provider has no such pod or container."""


class UnresolvedError(ProviderError):
    """A secret, config map or token that a container needs can't be had now."""


class UnreachableError(UnresolvedError):
    """Nobody could be asked for it: what was had before may still be used."""


class RefusedError(ProtokubeError):
    """The provider can never run this pod. Carries every reason."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("; ".join(self.reasons))


class Provider(Protocol):
    """Runs pods. Any failure that may pass is a ProviderError, and is tried again."""

    async def create_pod(self, pod: Pod) -> None:
        """Ask for a pod; idempotent by metadata.uid. Raises RefusedError with every reason, or ProviderError."""

    async def update_pod(self, pod: Pod) -> None:
        """Change a pod in place. Raises RefusedError when only another pod can be so: it is replaced then."""

    async def delete_pod(self, pod: Pod) -> None:
        """Ask for a pod's end; may be called again with a shorter grace. Raises NotFoundError.

        The grace is metadata.deletionGracePeriodSeconds, else the spec's, else 30 seconds.
        """

    async def get_pod(self, namespace: str, name: str) -> Pod | None:
        """The pod of that name with its status, None when there is none."""

    async def get_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        """The status of the pod of that name."""

    async def get_pods(self) -> Sequence[Pod]:
        """Every pod with its status; complete, or a ProviderError."""


@runtime_checkable
class NodeFacts(Protocol):
    """Optional: what a provider says of its node. Without it capacity comes from this machine."""

    async def capacity(self) -> dict[str, str]:
        """Quantities by resource name."""

    async def node_conditions(self) -> Sequence[Json]:
        """Ready and its like, as in a node's status."""

    def operating_system(self) -> str:
        """`linux` or `windows`."""


@runtime_checkable
class Addressed(Protocol):
    """Optional: a node that knows its addresses."""

    async def node_addresses(self) -> Sequence[Json]:
        """Type and address, as in a node's status."""


@runtime_checkable
class Notifies(Protocol):
    """Optional: a provider that tells of changes. Without it the provider is polled."""

    def changes(self) -> AsyncIterator[Pod | None]:
        """Yield a pod with fresh status, or None: look at all of them again."""


@runtime_checkable
class Pings(Protocol):
    """Optional: whether the provider can be reached. Without it `get_pods` tells."""

    async def ping(self) -> None:
        """Raise ProviderError when the provider can't be reached."""


@runtime_checkable
class Works(Protocol):
    """Optional: a provider with work of its own, which the loop keeps running."""

    async def work(self) -> None:
        """Work until cancelled."""


@runtime_checkable
class Closes(Protocol):
    """Optional: a provider that holds something open."""

    async def close(self) -> None:
        """Let go, at the agent's end."""


class LogOptions(Struct, frozen=True):
    """Which part of a log. `tail`: so many last lines, None for all. `follow`: go on until the container ends."""

    tail: int | None = None
    follow: bool = False


@runtime_checkable
class Logs(Protocol):
    """Optional: a provider that hands out what containers have printed."""

    def container_logs(self, namespace: str, pod: str, container: str, options: LogOptions) -> AsyncIterator[bytes]:
        """Yield the raw bytes. Raises NotFoundError."""


class Say(Protocol):
    """How a source tells the loop what it wants."""

    def __call__(
        self, pods: Mapping[str, Pod] | Unknown, held: Collection[str] = (), faults: Sequence[Fault] = ()
    ) -> None:
        """Say the whole list by UID, or that it is unknown.

        `held`: owners whose pods are unknown while the rest is known; they are left alone. `faults`: for people.
        """


class Source(Protocol):
    """Says which pods are wanted."""

    name: str

    async def run(self, say: Say) -> None:
        """Say the list now and with every change, until cancelled."""


@runtime_checkable
class Reporter(Protocol):
    """Reports pods. The loop repeats a report that raised ProviderError until it is accepted."""

    async def pod(self, pod: Pod) -> None:
        """Report a pod with its status; idempotent."""

    async def gone(self, pod: Pod) -> None:
        """Report that a pod is gone; idempotent."""


@runtime_checkable
class Remembers(Protocol):
    """Optional: a reporter that still has what an earlier agent reported."""

    async def reported(self) -> Sequence[Pod]:
        """Every pod whose end wasn't reported. Raises ProviderError."""


class Mount(Struct, frozen=True):
    """A path of the machine, and where the container has it."""

    source: str
    target: str
    read_only: bool = False


class Resolved(Struct, frozen=True):
    """What a container has from the API server: variables, and the files of its volumes by volume and path."""

    given: Given = NOTHING
    files: Mapping[str, Mapping[str, File]] = {}


class Resolve(Protocol):
    """Finds what a container refers to."""

    async def __call__(self, pod: Pod, spec: Spec, container: Container) -> Resolved:
        """Raises UnresolvedError."""


@runtime_checkable
class Asks(Protocol):
    """Optional: a provider that finds what containers refer to when it starts them; others get plain values."""

    def resolve_by(self, resolve: Resolve) -> None:
        """Ask this from now on."""


class ContainerSpec(Struct, frozen=True):
    """One start of one container: of which pod, how, and which number of attempt it is. `env` is whole."""

    id: ContainerId
    pod: Pod
    container: Container
    env: tuple[tuple[str, str], ...]
    argv: tuple[str, ...]
    mounts: tuple[Mount, ...] = ()


class ExecResult(Struct, frozen=True):
    """What came of a command in a container: its exit code, and the beginning of its output."""

    code: int
    output: bytes


class Runtime(Protocol):
    """Runs containers one at a time. Order, restarts, probes and phases are not its business."""

    name: str

    def refuse(self, pod: Pod) -> Sequence[str]:
        """Every reason why the pod can't run here."""

    async def open(self) -> None:
        """Prepare; raises ProviderError when the runtime can't be reached."""

    async def start(self, spec: ContainerSpec) -> None:
        """Start a container; nothing happens when that attempt exists already. Raises ProviderError."""

    async def stop(self, ref: ContainerId, grace: float) -> None:
        """End a container: TERM, and KILL when the grace is over. Returns once asked for; absent is fine."""

    async def kill(self, ref: ContainerId) -> None:
        """End a container at once; absent is fine."""

    async def remove(self, ref: ContainerId) -> None:
        """Forget an ended container; absent is fine."""

    async def containers(self) -> Sequence[ContainerState]:
        """Every container of ours, complete, or a ProviderError."""

    async def exec(self, ref: ContainerId, argv: Sequence[str], limit: float) -> ExecResult:
        """Run a command in a container. Raises ProviderError when it didn't end within `limit` seconds."""

    def logs(self, ref: ContainerId, options: LogOptions) -> AsyncIterator[bytes]:
        """What one attempt has printed."""

    def changes(self) -> AsyncIterator[str | None]:
        """Yield the UID of a pod whose containers changed, or None: look at all of them."""

    async def close(self) -> None:
        """Let go; no container ends."""
