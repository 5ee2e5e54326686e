"""The control plane's settings and facts, and the judgement of them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from protokube.core.component.model import Layer
from protokube.core.model import Fault

REGISTRY = "registry.k8s.io"


class Networking(Struct, frozen=True):
    """The cluster's networks. Two ranges, one per family, have a comma between them."""

    pod_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/12"
    domain: str = "cluster.local"
    cluster_dns: str = "10.96.0.10"


class Images(Struct, frozen=True):
    """Where images come from. `overrides`: component → its image, tag included."""

    registry: str = REGISTRY
    overrides: Mapping[str, str] = {}


class ControlPlaneSettings(Struct, frozen=True):
    """The operator's settings for the control plane.

    `layers`: component → its layers, the lowest first; `group_layers`: instance group → the same. `version` as in
    "1.36.2"; None when the installed kubelet tells. `faults` are the settings' faults: with any of them no pod is
    rendered.
    """

    enabled: bool = False
    version: str | None = None
    networking: Networking = Networking()
    images: Images = Images()
    layers: Mapping[str, tuple[Layer, ...]] = {}
    group_layers: Mapping[str, Mapping[str, tuple[Layer, ...]]] = {}
    manifest_dir: str = "/etc/kubernetes/manifests"
    faults: tuple[Fault, ...] = ()


class EtcdEndpoint(Struct, frozen=True):
    """A member of an etcd cluster on this node: the URL of its client port."""

    cluster: str
    url: str


class NodeOfControlPlane(Struct, frozen=True):
    """This node, as its pods need it.

    `addresses`: its internal ones, the preferred one first. `api_names`: the names that the API server answers to,
    beside those in the cluster. `trusted`: a text for all authorities and keys that are read at a component's start
    alone, by component: when it changes the component restarts.
    """

    name: str
    addresses: tuple[str, ...]
    etcd: tuple[EtcdEndpoint, ...]
    trusted: Mapping[str, str] = {}
