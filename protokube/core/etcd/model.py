"""etcd's templates, the answers of its peers, and the verdicts on its members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field

from protokube.core.backup.model import KeptBackups
from protokube.core.disks.model import StorageFacts, VolumeContents, VolumeLayout
from protokube.core.etcd.health import ClusterView
from protokube.core.etcd.running import Alarm, ClusterMember
from protokube.core.model import Unknown
from protokube.core.node.model import NodeFacts, OnVolume
from protokube.core.steps import Findings
from protokube.core.volumes.model import CloudSnapshot, MemberVolume


class EtcdPeerMember(Struct, frozen=True):
    """A member as an etcd peer lists it. A member that never started has no client URLs."""

    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]


class PeerAnswers(Struct, frozen=True, tag=True):
    """The answers of an etcd cluster's peers: member lists, by the member that gave each.

    `silence` says why other members gave none. `versions`: what the members run that were asked for it.
    """

    lists: Mapping[str, tuple[EtcdPeerMember, ...]]
    silence: str = ""
    versions: Mapping[str, str] = {}


class LocalMember(Struct, frozen=True):
    """This machine's own member of an etcd cluster, which is to be asked: its etcd name, its client URL, and its port
    for metrics, 0 where it has none."""

    cluster: str
    name: str
    url: str
    metrics_port: int


class ServedEtcd(Struct, frozen=True):
    """What this machine's own member serves, with quorum.

    `told`: what members have told about their authorities, by name (restarts.py). `started`: when its process was
    started, in seconds since the epoch, up to one too early; None where it has no port that tells. `version`: what it
    runs. `turn`: the key that says whose turn it is to restart (turns.py); empty when it is nobody's. `api_turn`: the
    same for the API servers that write to it (core/controlplane/turns.py).
    """

    members: tuple[ClusterMember, ...]
    told: Mapping[str, str] = {}
    started: float | None = None
    version: str = ""
    alarms: tuple[Alarm, ...] = ()
    turn: str = ""
    api_turn: str = ""


class HealthQuestion(Struct, frozen=True):
    """How to ask how an etcd cluster is: our own member, and where the others' peer ports may be, by name (hosts with
    ports)."""

    at: LocalMember
    peers: Mapping[str, tuple[str, ...]] = {}


class NotListening(Unknown, frozen=True, tag=True):
    """A member of this machine whose client port nobody listens at: it is down, or hasn't come up."""


DEFAULT_IMAGE = "registry.k8s.io/etcd:3.6.6-0"
"""The image that Kubernetes 1.35 pins (build/dependencies.yaml); its command is `etcd`, on the PATH."""

InitialState = Literal["new", "existing"]


class EtcdTemplate(VolumeLayout, frozen=True, kw_only=True):
    """One etcd cluster's template: the fields of `<key>.yaml`, and the pod that all etcd clusters share.

    `pod` is the text of manifest.yaml, placeholders unfilled. `supports_tls`: it says what differs with TLS,
    `supports_quota` where the quota stands, `supports_node_clients` where it listens to other nodes' clients.
    `metrics_port` is where etcd answers liveness probes then, since its client port asks for a certificate.
    """

    key: str
    pod_name: str
    client_port: int
    peer_port: int
    cpu_request: str
    pod: str
    metrics_port: int = 0
    supports_tls: bool = False
    supports_quota: bool = False
    supports_node_clients: bool = False


class EtcdSettings(Struct, frozen=True):
    """The operator's settings for etcd. Times are seconds.

    `image` is None unless the operator named one. `assume_new`: the operator says with --etcd-bootstrap that these
    members never ran. `peers_patience`: for so long the answers of peers must stay the same before a member joins.
    `names_patience`: for so long a new manifest waits for the names of all members before it is linked without them.
    `dns_suffix` starts with a dot. `private_names`: names are kept in the node's own hosts file. `names_kept`:
    protokube keeps names at all. `kubelet_unit` is None where protokube doesn't manage kubelet. `tls`: whether new
    etcd clusters use TLS; `auto` means where `store_shared`, that is where an operator named the store. With `on`,
    clusters that run without move to it. `takes_backups`: the store may have some, named
    or not. `quota`: of each member's database, in bytes; None for etcd's own. `node_clients`: members with TLS listen
    to clients at their node's address, too.
    """

    templates: Mapping[str, EtcdTemplate] = {}
    image: str | None = None
    default_image: str = DEFAULT_IMAGE
    assume_new: bool = False
    peers_patience: float = 3.0
    names_patience: float = 60.0
    manifest_dir: str = "/etc/kubernetes/manifests"
    dns_suffix: str | None = None
    private_names: bool = True
    names_kept: bool = True
    kubelet_unit: str | None = "kubelet.service"
    tls: Literal["auto", "on", "off"] = "off"
    store_shared: bool = False
    takes_backups: bool = False
    quota: int | None = None
    node_clients: bool = False

    def suffix(self, cluster_id: str) -> str:
        """The internal names' suffix, with its leading dot."""
        return self.dns_suffix or f".internal.{cluster_id}"

    def link(self, template: EtcdTemplate) -> str:
        """The path at which kubelet finds an etcd cluster's manifest."""
        return f"{self.manifest_dir}/{template.manifest_file}"


class EtcdFacts(Struct, frozen=True):
    """The facts that members are judged by.

    `named` are the names that have addresses. `served` is what our own members serve, by etcd cluster, where it was
    asked for. `health` is how these clusters were when they were last asked: it decides nothing. `kept`: the
    backups of etcd clusters about which the store was asked.
    """

    now: float
    cloud: CloudSnapshot
    storage: StorageFacts
    node: NodeFacts
    answers: Mapping[str, PeerAnswers | Unknown] = {}
    named: frozenset[str] | Unknown = frozenset()
    served: Mapping[str, ServedEtcd | Unknown] = {}
    health: Mapping[str, ClusterView] = {}
    kept: Mapping[str, KeptBackups | Unknown] = {}


class MountedMember(Struct, frozen=True):
    """A member volume of ours, mounted at its mount point, healthy and readable.

    `link` is the path at which kubelet finds its manifest.
    """

    volume: MemberVolume
    template: EtcdTemplate
    link: str
    where: OnVolume
    contents: VolumeContents

    def path(self, relative: str) -> str:
        """A path on the volume, without the root prefix."""
        return f"{self.volume.target}/{relative}"

    @property
    def manifest(self) -> str:
        """The text of the volume's manifest; empty when there is none."""
        return self.contents.texts.get(self.template.manifest, "")

    @property
    def has_data(self) -> bool:
        """Whether etcd ever started there."""
        return self.template.has_data(self.contents)

    @property
    def uuid(self) -> str:
        """The filesystem's UUID. A volume without a readable one is no mounted member."""
        assert self.contents.uuid is not None
        return self.contents.uuid


class TagWanted(Struct, frozen=True):
    """A tag to write to a volume, and why."""

    key: str
    value: str
    reason: str


class PeerChange(Struct, frozen=True):
    """A change of a member's peer URL in the member list. `id` is the member's; `old` are its URLs now."""

    id: int
    old: tuple[str, ...]
    new: str


class MemberVerdict(Struct, frozen=True):
    """The next steps of a mounted member, in order. A field that is None or empty needs no step, or not yet.

    `identity`: write this identity file (because of `identity_reason`). `warning`: an operator has overruled a
    refusal of it. `tags`: write them. `make_data_dir`: make the
    data directory. `manifest`: write this manifest. `link`: why to link it now. `keep_link`: a link may stand.
    `secure_peer` and `tell` change what the etcd cluster knows of it. `turn`: take the turn to restart, with this
    text in the place of `turn_before`; `give_back`: it is over.
    """

    member: MountedMember
    keep_link: bool
    identity: str | None = None
    identity_reason: str = ""
    warning: bool = False
    tags: tuple[TagWanted, ...] = ()
    make_data_dir: bool = False
    manifest: str | None = None
    manifest_reason: str = ""
    link: str | None = None
    secure_peer: PeerChange | None = None
    tell: str | None = None
    turn: str | None = None
    turn_before: str = ""
    give_back: str | None = None


class StaleLink(Struct, frozen=True):
    """A link in the manifest folder that may not stand, and why."""

    path: str
    reason: str


class EtcdAssessment(Struct, frozen=True):
    """The judgement of this machine's members.

    `questions`: the peer URLs to ask, with the member behind each, for every etcd cluster in which our member never
    started. `awaited`: the names that a first link waits for. `backed_up`: the etcd clusters whose backups matter,
    since a member is to start as `new`.
    """

    members: tuple[MountedMember, ...] = ()
    verdicts: tuple[MemberVerdict, ...] = ()
    stale_links: tuple[StaleLink, ...] = ()
    questions: Mapping[str, Mapping[str, str]] = {}
    awaited: frozenset[str] = frozenset()
    asked: tuple[LocalMember, ...] = ()
    health: tuple[HealthQuestion, ...] = ()
    backed_up: tuple[str, ...] = ()
    findings: Findings = field(default_factory=Findings)
