"""The node's objects: what this agent says of its machine to an API server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from protokube.agent.core.model import Json
from protokube.agent.core.status import time_text

LEASE_SECONDS = 40
"""As kubelet's: after that long without a renewal the controllers hold the node for lost."""
ROLE = "kubernetes.io/role"
"""A label that NodeRestriction lets no node give itself."""
_EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class NodeIdentity(Struct, frozen=True):
    """What stays the same while the agent runs. `taints` as in a node's spec. `port`: the kubelet API's, 0: none."""

    name: str
    system: str
    machine: str
    version: str
    taints: tuple[Json, ...] = ()
    port: int = 0
    info: Mapping[str, str] = {}

    @property
    def architecture(self) -> str:
        """The machine's architecture as Go spells it."""
        return _ARCHITECTURES.get(self.machine, self.machine)


class NodeState(Struct, frozen=True):
    """What may change, as in a node's status. Quantities by resource name."""

    capacity: Mapping[str, str]
    addresses: tuple[Json, ...]
    conditions: tuple[Json, ...]


def labels_of(identity: NodeIdentity, *, restricted: bool = False) -> dict[str, str]:
    """The node's labels; `restricted` leaves out the one that NodeRestriction refuses."""
    labels = {
        "type": "virtual-kubelet",
        ROLE: "agent",
        "kubernetes.io/hostname": identity.name,
        "kubernetes.io/os": identity.system,
        "kubernetes.io/arch": identity.architecture,
        _EXCLUDED: "true",
    }
    return {name: value for name, value in labels.items() if not (restricted and name == ROLE)}


def node_object(identity: NodeIdentity, *, restricted: bool = False) -> Json:
    """The node as it is created."""
    metadata = {"name": identity.name, "labels": labels_of(identity, restricted=restricted)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": list(identity.taints)}}


def status_of(identity: NodeIdentity, state: NodeState) -> Json:
    """The node's status as far as it is ours, without times."""
    info = {
        "architecture": identity.architecture,
        "operatingSystem": identity.system,
        "kubeletVersion": identity.version,
        "containerRuntimeVersion": "",
        "kubeProxyVersion": "",
        **identity.info,
    }
    return {
        "capacity": dict(state.capacity),
        "allocatable": dict(state.capacity),
        "addresses": list(state.addresses),
        "conditions": list(state.conditions),
        "nodeInfo": info,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": identity.port}},
    }


def status_patch(status: Json, since: Mapping[str, str], now: float) -> Json:
    """A strategic merge patch of the node's status. `since`: condition → time of its last transition.

    Conditions of other types stay. The addresses are replaced as a whole: merged by type, a second address of one
    type would take the first one's place (kubernetes#79391, virtual-kubelet#921).
    """
    text = time_text(now)
    conditions = [
        {**one, "lastHeartbeatTime": text, "lastTransitionTime": since.get(one["type"], text)}
        for one in status["conditions"]
    ]
    addresses = [{"$patch": "replace"}, *status["addresses"]]
    return {"status": {**status, "conditions": conditions, "addresses": addresses}}


def transitions(before: Sequence[Json], now: Sequence[Json], since: Mapping[str, str], text: str) -> dict[str, str]:
    """Condition → time of its last transition, given what was said before."""
    earlier = {one["type"]: one["status"] for one in before}
    return {
        one["type"]: since[one["type"]]
        if earlier.get(one["type"]) == one["status"] and one["type"] in since
        else text
        for one in now
    }


def lease_object(name: str, node_uid: str, now: float) -> Json:
    """The node's lease, new."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node_uid}
    metadata = {"name": name, "namespace": "kube-node-lease", "ownerReferences": [owner]}
    spec = {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": micro_time(now)}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def renewed(lease: Json, name: str, node_uid: str, now: float) -> Json:
    """A lease that was read, renewed; fields of others stay."""
    new = lease_object(name, node_uid, now)
    metadata = {**lease["metadata"], "ownerReferences": new["metadata"]["ownerReferences"]}
    return {**lease, "metadata": metadata, "spec": {**(lease.get("spec") or {}), **new["spec"]}}


def micro_time(seconds: float) -> str:
    """A time with six digits of a second, as a lease's `renewTime` has it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def not_ready(reason: str, message: str) -> Json:
    """The condition of a node that can't run pods now."""
    return {"type": "Ready", "status": "False", "reason": reason, "message": message}


def taint_of(text: str) -> Json:
    """A taint from `KEY[=VALUE][:EFFECT]`; without an effect it is NoSchedule."""
    body, _, effect = text.partition(":")
    key, _, value = body.partition("=")
    taint = {"key": key, "effect": effect or "NoSchedule"}
    return {**taint, "value": value} if value else taint
