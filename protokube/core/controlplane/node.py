"""What of this node the control plane's pods depend on: its etcd members, its names, what it trusts."""

from __future__ import annotations

from msgspec import Struct

from protokube.core.controlplane.certificates import trusted_by
from protokube.core.controlplane.model import (
    ControlPlaneFacts,
    ControlPlaneSettings,
    EtcdEndpoint,
    NodeOfControlPlane,
)
from protokube.core.controlplane.names import API_PORT, API_SERVER, COMPONENTS
from protokube.core.controlplane.own import EVENTS
from protokube.core.etcd.model import EtcdAssessment, MountedMember
from protokube.core.static_pod import manifest_env
from protokube.core.volumes.model import MAIN, VolumesAssessment

STORES = (MAIN, EVENTS)
"""The etcd clusters that the API server writes to."""


class LocalEtcd(Struct, frozen=True):
    """A member on this machine: where the API server reaches it, and where it answers for its health."""

    endpoint: EtcdEndpoint
    health: str


def local_etcd(volumes: VolumesAssessment, etcd: EtcdAssessment) -> tuple[LocalEtcd, ...] | str:
    """The members on this machine that its API server uses; a text says which one is still missing.

    All API servers must write events to the same place: where the cluster has an etcd for them, this one waits for
    its member.
    """
    mounted = {one.volume.member.cluster: one for one in etcd.members}
    known = {one.member.cluster for one in volumes.all}
    found = []
    for cluster in STORES:
        member = mounted.get(cluster)
        if member is not None and member.manifest:
            found.append(_local(member))
        elif cluster in known:
            return f"this node's member of etcd cluster {cluster} isn't in place"
    return tuple(found)


def _local(member: MountedMember) -> LocalEtcd:
    template = member.template
    secured = manifest_env(member.manifest).get("ETCD_LISTEN_CLIENT_URLS", "").startswith("https:")
    scheme, port = ("https", template.metrics_port) if secured else ("http", template.client_port)
    url = f"{scheme}://127.0.0.1:{template.client_port}"
    return LocalEtcd(EtcdEndpoint(template.key, url), f"http://127.0.0.1:{port}/health")


def node_of(volumes: VolumesAssessment, etcd: tuple[LocalEtcd, ...], facts: ControlPlaneFacts) -> NodeOfControlPlane:
    """This node, as its pods need it."""
    instance = volumes.instance
    trusted = {component: trusted_by(component, facts.certificates) for component in COMPONENTS}
    return NodeOfControlPlane(instance.name, instance.internal, tuple(one.endpoint for one in etcd), trusted)


def api_port(settings: ControlPlaneSettings) -> int:
    """The port of all API servers of the cluster: the API's URL has but one."""
    layers = settings.layers.get(API_SERVER, ())
    ports = [layer.values["securePort"] for layer in layers if isinstance(layer.values.get("securePort"), int)]
    return int(str(ports[-1])) if ports else API_PORT
