"""The control plane's settings and facts, and the judgement of them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from protokube.core.component.model import Layer
from protokube.core.controlplane.turns import GiveApiTurnBack, TakeApiTurn
from protokube.core.etcd.health import ClusterView
from protokube.core.etcd.model import LocalMember, ServedEtcd
from protokube.core.kubelet.model import KubeletFacts
from protokube.core.model import Fault, Moment, Unknown
from protokube.core.node.model import NodeFacts, UnitState
from protokube.core.pki.model import Certificate, Damaged
from protokube.core.steps import Findings
from protokube.core.volumes.model import Peer

REGISTRY = "registry.k8s.io"


class Networking(Struct, frozen=True):
    """The cluster's networks. Two ranges, one per family, have a comma between them. `core_dns`: CoreDNS is run at
    `cluster_dns`."""

    pod_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/12"
    domain: str = "cluster.local"
    cluster_dns: str = "10.96.0.10"
    core_dns: bool = True


class Images(Struct, frozen=True):
    """Where images come from. `overrides`: component → its image, tag included."""

    registry: str = REGISTRY
    overrides: Mapping[str, str] = {}


class ControlPlaneSettings(Struct, frozen=True):
    """The operator's settings for the control plane.

    `layers`: component → its layers, the lowest first; `group_layers`: instance group → the same;
    `node_layers`: a node's name → the same, the highest. `version` as in
    "1.36.2"; None when the installed kubelet tells. `faults` are the settings' faults: with any of them no pod is
    rendered.
    """

    version: str | None = None
    networking: Networking = Networking()
    images: Images = Images()
    layers: Mapping[str, tuple[Layer, ...]] = {}
    group_layers: Mapping[str, Mapping[str, tuple[Layer, ...]]] = {}
    node_layers: Mapping[str, Mapping[str, tuple[Layer, ...]]] = {}
    manifest_dir: str = "/etc/kubernetes/manifests"
    faults: tuple[Fault, ...] = ()

    def layers_for(self, component: str, group: str | None, node: str) -> tuple[Layer, ...]:
        """A component's layers on a node of an instance group, the lowest first."""
        own = self.layers.get(component, ()) + self.group_layers.get(group or "", {}).get(component, ())
        return own + self.node_layers.get(node, {}).get(component, ())


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


class Health(Struct, frozen=True, tag=True):
    """The answer of a health endpoint on this node: its HTTP status, and the beginning of its text."""

    status: int
    text: str = ""

    @property
    def good(self) -> bool:
        """Whether it says that all is well. etcd says so in the text."""
        return self.status == 200 and '"health":"false"' not in self.text.replace(" ", "")


class ControlPlaneFacts(Struct, frozen=True):
    """The facts that the control plane is judged by. `health`: URL → the answer, of those that were asked.
    `peers`: what the cloud says about the machines with etcd volumes. `runtimes`: units of container runtimes, those
    that were read; None where kubelet isn't what starts the pods. `served`: what this node's member of an etcd
    cluster serves, where it was asked; `etcd`: how these clusters were when they were last asked, minutes ago."""

    at: Moment
    node: NodeFacts
    kubelet: KubeletFacts = KubeletFacts()
    certificates: Mapping[str, Certificate | Damaged | Unknown] = {}
    health: Mapping[str, Health | Unknown] = {}
    peers: tuple[Peer, ...] | Unknown = ()
    runtimes: Mapping[str, UnitState | Unknown] | None = None
    served: Mapping[str, ServedEtcd | Unknown] = {}
    etcd: Mapping[str, ClusterView] = {}


class FileWanted(Struct, frozen=True):
    """A file to write, and why. `before` is the text that it replaces, where people should see what changes."""

    path: str
    text: str
    reason: str
    mode: int = 0o644
    before: str | None = None
    warning: bool = False


class ComponentVerdict(Struct, frozen=True):
    """The next steps of a component: its files, or its pod, or the link to it, which stands at `manifest`.

    `link` and `unlink` are the reasons to make it and to take it away. `stale` are files that no pod names.
    """

    component: str
    manifest: str
    files: tuple[FileWanted, ...] = ()
    link: str | None = None
    unlink: str | None = None
    stale: tuple[str, ...] = ()


class ControlPlaneAssessment(Struct, frozen=True):
    """The judgement of the control plane. `ask`: health endpoints to ask; `units`: those to read; `served`: this
    node's member of etcd that is to be asked whose turn it is, `turn` what to do with the turn."""

    verdicts: tuple[ComponentVerdict, ...] = ()
    ask: frozenset[str] = frozenset()
    findings: Findings = field(default_factory=Findings)
    units: frozenset[str] = frozenset()
    served: LocalMember | None = None
    turn: TakeApiTurn | GiveApiTurnBack | None = None
