"""The side of the agent that faces an API server: its source, its reporters, and what keeps the node there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from msgspec import Struct

from protokube import __version__
from protokube.agent.core.model import Json, Pod
from protokube.agent.core.node import NodeIdentity, NodeState
from protokube.agent.core.pods import API, owner_of
from protokube.agent.core.unfilled import unfilled
from protokube.agent.facts import Facts
from protokube.agent.http.access import Access
from protokube.agent.http.kube import KubeClient
from protokube.agent.http.kubeconfig import KubeConfig
from protokube.agent.http.kubeletapi import KubeletApi
from protokube.agent.loop import Fill
from protokube.agent.machine import Machine
from protokube.agent.options import Options
from protokube.agent.ports import Addressed, Asks, NodeFacts, Pings, Provider
from protokube.agent.references import References
from protokube.agent.registration import Registration
from protokube.agent.reporters.api import ApiReporter
from protokube.agent.reporters.events import Events
from protokube.agent.reporters.mirrors import Mirrors
from protokube.agent.reporters.node import EVERY, STATUS_EVERY, NodeKeeper
from protokube.agent.sources.apiserver import FIRST, ApiSource

KEPT = "node.uid"
"""The file below the state directory with the UID under which the API server's pods were last believed."""
BASE_VERSION = "v1.20.0"
"""The Kubernetes whose rules the agent keeps; tools expect a version of this form in a node's status."""


class Pace(Struct, frozen=True):
    """Seconds between renewals of the lease, between unchanged statuses, and before a failed list is tried again."""

    lease: float = EVERY
    status: float = STATUS_EVERY
    retry: float = FIRST


USUAL = Pace()


class ApiSide:
    """Everything that talks to the API server. Call `follow` with the agent's facts before `run`."""

    def __init__(
        self, client: KubeClient, provider: Provider, options: Options, host_ip: str, pace: Pace = USUAL
    ) -> None:
        self.client = client
        self.facts = Facts(())
        self._look = Look(provider, options.node, host_ip)
        identity = identity_of(options, self._look.machine.operating_system())
        kept = options.state_dir / KEPT
        self.registration = Registration(client, identity, kept, forget=options.api.accept_new_cluster)
        found = References(client)
        self.fill: Fill | None = None
        if isinstance(provider, Asks):
            provider.resolve_by(found.resolve)
        else:
            self.fill = found.filled
        self.events = Events(client, options.node)
        self._mirrors = Mirrors(client, self.registration, self._settled)
        self.reporter = ApiReporter(client, self._mirrors.static, self.events)
        self.source = ApiSource(
            client,
            self.registration,
            running=self._running,
            mirrors=self._mirrors.seen,
            strange=self.events.tell,
            namespace=options.api.namespace,
            first=pace.retry,
        )
        access = Access(client, options.node)
        self.kubelet = KubeletApi(provider, options.node, self._pods, access, options.api.kubelet)
        self._keeper = NodeKeeper(client, self.registration, self._look, every=pace.lease, status_every=pace.status)

    def follow(self, facts: Facts) -> None:
        """Take what runs from these facts."""
        self.facts = facts

    async def run(self) -> None:
        """Keep the node, its mirrors and its events until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in (self._keeper.run(), self._mirrors.run(), self.events.run(), self.kubelet.run()):
                group.create_task(one)

    def _pods(self) -> Sequence[Pod]:
        running = self.facts.running
        if self.fill is None:
            return list(running.values())
        return [unfilled(pod, self.facts.wanted(uid)) for uid, pod in running.items()]

    def _running(self) -> Collection[str] | None:
        if not self.facts.readable:
            return None
        return [uid for uid, pod in self.facts.running.items() if owner_of(pod) == API]

    def _settled(self) -> bool:
        """Whether it is known which static pods there are: a mirror without one may go then."""
        facts = self.facts
        if not facts.readable:
            return False
        static = [one for name, one in facts.sources.items() if name in ("file", "http")]
        return all(one.unknown is None and not one.held for one in static)


def make_api_side(config: KubeConfig, options: Options, provider: Provider, host_ip: str) -> ApiSide:
    """The API server's side, as the command line says. Raises ProviderError."""
    return ApiSide(KubeClient(config), provider, options, options.api.address or host_ip)


def identity_of(options: Options, system: str) -> NodeIdentity:
    """What stays the same of this node."""
    kernel = os.uname()
    info = {"kernelVersion": kernel.release, "osImage": _os_image(), "machineID": _line("/etc/machine-id")}
    info |= {"bootID": _line("/proc/sys/kernel/random/boot_id"), "systemUUID": ""}
    return NodeIdentity(
        options.node,
        options.api.system or system,
        kernel.machine,
        f"{BASE_VERSION}-protokube.{__version__}",
        options.api.taints,
        options.api.kubelet.port if options.api.kubelet.client_ca_file is not None else 0,
        {**info, "containerRuntimeVersion": f"{options.provider}://{__version__}"},
    )


class Look:
    """Looks at the provider and its node; this machine is the node where the provider doesn't say."""

    def __init__(self, provider: Provider, node: str, host_ip: str) -> None:
        self._provider = provider
        self.machine: NodeFacts = provider if isinstance(provider, NodeFacts) else Machine()
        self._addresses: tuple[Json, ...] = ({"type": "Hostname", "address": node},)
        if host_ip:
            self._addresses = ({"type": "InternalIP", "address": host_ip}, *self._addresses)

    async def __call__(self) -> NodeState:
        """The node's state. Raises ProviderError while the provider can't be reached."""
        if isinstance(self._provider, Pings):
            await self._provider.ping()
        else:
            await self._provider.get_pods()
        capacity = await self.machine.capacity()
        conditions = await self.machine.node_conditions()
        told = await self.machine.node_addresses() if isinstance(self.machine, Addressed) else ()
        return NodeState(capacity, tuple(told) or self._addresses, tuple(conditions))


def _line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _os_image() -> str:
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return ""
    found = (line.partition("=")[2] for line in text.splitlines() if line.startswith("PRETTY_NAME="))
    return next(found, "").strip('"')
