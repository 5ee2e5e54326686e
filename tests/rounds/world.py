"""A zone with its nodes, in memory: slow, and it refuses what is physically impossible.

Attaching takes a number of describes (during the first of which the cloud may still tell the old state), disks
appear late, tools work for a number of looks. What no planner may ever ask for (formatting a mounted disk, linking a
manifest that isn't there, taking a second member of one etcd cluster) raises `Impossible`, which nothing swallows.

`tests.rounds.process` puts it behind the ports, `tests.rounds.etcd` runs what kubelet would run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from protokube.core.backup.actions import TakeBackup
from protokube.core.backup.model import BackupWork
from protokube.core.disks.model import (
    Blank,
    Disk,
    Ext4,
    Intent,
    Mounted,
    NoDisk,
    NotBlank,
    VolumeContents,
    Working,
)
from protokube.core.model import GIB, Unknown
from protokube.core.node.model import Absent, File, FileState, Link, Mount, UnitState
from protokube.core.objects.model import Manifest, ObjectKey
from protokube.core.objects.requests import Request
from protokube.core.pki.model import Certificate, Damaged
from protokube.core.volumes.model import (
    BOOTSTRAPPED_TAG,
    FILESYSTEM_TAG,
    Attachment,
    AttachState,
    CloudVolume,
    DiskIdentity,
    Instance,
    Peer,
    PeerState,
)
from tests.lab.memory_store import MemoryStore
from tests.rounds.etcd import EtcdData, EtcdWorld

CLUSTER = "c.example.com"
KUBELET = "kubelet.service"
MANIFESTS = "/etc/kubernetes/manifests"


class Impossible(BaseException):
    """Something was asked of the world that no machine could, or no node may, ever do."""


class Filesystem(Struct):
    """An ext4. `files` maps paths to (text, mtime in ns); a directory ends in "/" and has the text None."""

    uuid: str
    label: str
    size: int
    used: bool = False
    checked: bool = False
    files: dict[str, tuple[str | None, int]] = field(default_factory=lambda: {"lost+found/": (None, 0)})
    etcd: dict[str, EtcdData] = field(default_factory=dict)

    def contents(self) -> VolumeContents:
        texts = {path: text for path, (text, _) in self.files.items() if text is not None}
        mtimes = {path: mtime for path, (text, mtime) in self.files.items() if text is not None}
        return VolumeContents(frozenset(self.files), texts, mtimes, uuid=self.uuid)

    def put(self, path: str, text: str | None, at: float | None = None) -> None:
        """A file, or a directory where the path ends in "/", with the directories above it; `at`, or now."""
        parts = path.rstrip("/").split("/")
        for depth in range(1, len(parts)):
            self.files.setdefault("/".join(parts[:depth]) + "/", (None, 0))
        self.files[path] = (text, int((time.time() if at is None else at) * 1e9))


class Job(Struct):
    """A tool at work on a disk, for so many more looks."""

    tool: str
    looks: int
    then: Filesystem


class WorldVolume(Struct):
    """A volume and what stands on it: `evidence` (unmanaged data), a filesystem, or nothing."""

    id: str
    size: int
    tags: dict[str, str]
    zone: str = "z1"
    pristine: bool | None = None
    multi_attach: bool = False
    holder: str | None = None
    device: str | None = None
    attaching: int = 0
    unseen: int = 0
    appears: int = 0
    evidence: str | None = None
    filesystem: Filesystem | None = None
    intent: Intent | None = None
    job: Job | None = None
    error: str | None = None


class Node(Struct):
    """A machine: what a reboot forgets (mounts, the unit) and what it keeps (files, records in its hosts file)."""

    name: str
    address: str
    zone: str = "z1"
    mounts: dict[str, str] = field(default_factory=dict)
    files: dict[str, FileState] = field(default_factory=dict)
    records: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    unit: UnitState | None = None
    runtimes: dict[str, UnitState] = field(default_factory=dict)
    up: bool = True
    ghost: bool = False
    """The cloud says that it runs, whatever it does."""
    certificates: dict[str, Certificate | Damaged | Unknown] = field(default_factory=dict)
    clock_in_sync: bool = True
    api_down: str | None = "connection refused"
    """Why this machine's API server isn't ready."""
    asked_for: bool = False
    """Whether a kubelet has asked for a certificate since the last look."""
    barred: dict[str, str] = field(default_factory=dict)
    """What bars the way to mount points."""
    backup_work: dict[str, BackupWork] = field(default_factory=dict)
    backup_jobs: list[TakeBackup] = field(default_factory=list)
    """The backups that were started and haven't ended."""
    ill: str = ""
    """What every health endpoint of the node says instead of "all is well"."""
    bad_words: set[str] = field(default_factory=set)
    """A pod that holds one of them never comes up."""
    leftover: set[str] = field(default_factory=set)
    """Components whose containers outlive kubelet."""
    told: str | None = None
    """What other nodes are told for its address, on a cloud that doesn't know it by itself."""

    @property
    def state(self) -> PeerState:
        """What the cloud says."""
        return PeerState.RUNNING if self.up or self.ghost else PeerState.STOPPED

    @property
    def kubelet_runs(self) -> bool:
        return self.up and self.unit is not None and self.unit.active == "active"


class World:
    """The cloud, its volumes and its nodes. Every call holds `lock`."""

    def __init__(
        self, *, attach_looks: int = 1, stale_looks: int = 0, appear_looks: int = 1, tool_looks: int = 1
    ) -> None:
        self.attach_looks, self.stale_looks = attach_looks, stale_looks
        self.appear_looks, self.tool_looks = appear_looks, tool_looks
        self.lock = threading.RLock()
        self.objects: dict[ObjectKey, Manifest] = {}
        """The cluster's objects, which every API server shows."""
        self.requests: dict[str, Request] = {}
        self.channels: dict[str, tuple[Manifest, ...]] = {}
        """What each addon channel wants."""
        self.lease = ""
        """The node that may write addons."""
        self.tokens: dict[str, str] = {}
        """The bootstrap tokens that hold, and the nodes that they were made for."""
        self.decided: dict[str, bool] = {}
        """Kubelets' requests, and whether they were approved."""
        self.kubelet: str | None = None
        """The version of the kubelet that is installed on every node."""
        self.clock: Callable[[], float] = time.time
        self.monotonic: Callable[[], float] = time.monotonic
        self.volumes: dict[str, WorldVolume] = {}
        self.nodes: dict[str, Node] = {}
        self.store = MemoryStore()
        self.leaders: dict[str, str] = {}
        """The node whose member leads, by etcd cluster."""
        self.can_tag = True
        self.trouble: Callable[[], str | None] = lambda: None
        """What goes wrong with the next AttachVolume: `throttled`, or `lost` (carried out, and not answered)."""
        self.hides: Callable[[], bool] = lambda: False
        """Whether an answer leaves out an attachment that it could show."""
        self.lacks: Callable[[], bool] = lambda: False
        """Whether an answer leaves out a volume that is attached."""
        self.late_tags = False
        """Whether answers lack the tags that nodes have written."""
        self.etcd = EtcdWorld(self)

    def node(self, name: str) -> Node:
        """Add a machine."""
        made = Node(name, f"10.0.0.{len(self.nodes) + 1}", unit=UnitState("loaded", "inactive", "dead"))
        self.nodes[name] = made
        return made

    def volume(self, id_: str, spec: str, cluster: str = "main", **more: object) -> WorldVolume:
        """Add a blank volume of an etcd member, such as a/a,b,c."""
        tags = {"KubernetesCluster": CLUSTER, "k8s.io/role/master": "1", f"k8s.io/etcd/{cluster}": spec}
        self.volumes[id_] = WorldVolume(id_, GIB, tags, **more)  # type: ignore[arg-type]
        return self.volumes[id_]

    # --- the cloud ---

    def instance(self, node: Node) -> Instance:
        return Instance(node.name, node.name, node.zone, CLUSTER, (node.address,))

    def describe(self) -> tuple[CloudVolume, ...]:
        """One answer of the cloud; attachments proceed by being looked at."""
        return tuple(
            self._described(volume) for volume in self.volumes.values() if volume.holder is None or not self.lacks()
        )

    def _described(self, volume: WorldVolume) -> CloudVolume:
        attachments: tuple[Attachment, ...] = ()
        if volume.holder is not None and (volume.unseen or self.hides()):
            volume.unseen = max(volume.unseen - 1, 0)
        elif volume.holder is not None:
            state = AttachState.ATTACHING if volume.attaching else AttachState.ATTACHED
            volume.attaching = max(volume.attaching - 1, 0)
            attachments = (Attachment(volume.holder, volume.device, state),)
        return CloudVolume(
            volume.id, volume.zone, volume.size, self._shown_tags(volume), "in-use" if attachments else "available",
            attachments, volume.multi_attach, identity=DiskIdentity(serials=frozenset({volume.id})),
            pristine=volume.pristine and not (volume.evidence or volume.intent or volume.filesystem),
        )  # fmt: skip

    def _shown_tags(self, volume: WorldVolume) -> dict[str, str]:
        ours = (FILESYSTEM_TAG, BOOTSTRAPPED_TAG) if self.late_tags else ()
        return {key: value for key, value in volume.tags.items() if key not in ours}

    def peers(self) -> tuple[Peer, ...]:
        holders = {volume.holder for volume in self.volumes.values()}
        return tuple(
            Peer(node.name, (node.told or node.address,), (), node.state)
            for node in self.nodes.values()
            if node.name in holders
        )

    def attach(self, node: Node, volume: WorldVolume, device: str | None) -> None:
        """The cloud's side of AttachVolume; the caller has checked that the volume is free."""
        cluster = _cluster_of(volume)
        if volume.zone != node.zone:
            raise Impossible(f"{node.name} takes {volume.id} of another zone")
        if twins := [one.id for one in self.held(node) if _cluster_of(one) == cluster]:
            raise Impossible(f"{node.name} takes {volume.id} beside {twins} of etcd cluster {cluster}")
        volume.holder, volume.device = node.name, device
        volume.attaching, volume.unseen, volume.appears = self.attach_looks, self.stale_looks, self.appear_looks

    def held(self, node: Node) -> list[WorldVolume]:
        """The volumes that truly are the node's, seen or not."""
        return [volume for volume in self.volumes.values() if volume.holder == node.name]

    def detach(self, volume: WorldVolume) -> None:
        """What an operator does with the volume of a machine that is gone."""
        holder = self.nodes[volume.holder or ""]
        if holder.up and volume.id in holder.mounts.values():
            raise Impossible(f"{volume.id} is mounted on {holder.name}")
        volume.holder = volume.device = None
        volume.attaching = volume.unseen = 0

    # --- the machine ---

    def look(self, node: Node, volume: WorldVolume) -> Disk | NoDisk:
        """What the node finds where the volume's disk should be. Disks appear and tools end by being looked at."""
        if volume.holder != node.name or volume.attaching or volume.appears:
            volume.appears = max(volume.appears - 1, 0)
            return NoDisk(f"no disk has the serial {volume.id}")
        number = self.number(volume)
        return Disk(f"/dev/nvme{number[1]}n1", number, volume.size, self._content(node, volume))

    def _content(self, node: Node, volume: WorldVolume) -> Blank | Ext4 | NotBlank | Mounted | Working:
        if volume.id in node.mounts.values():
            return Mounted()
        if job := volume.job:
            job.looks -= 1
            if job.looks >= 0:
                return Working(job.tool)
            volume.filesystem, volume.intent, volume.job = job.then, None, None
        if volume.evidence is not None:
            return NotBlank(volume.evidence)
        if found := volume.filesystem:
            return Ext4(found.uuid, found.label, found.size, found.used, found.checked, found.contents())
        return Blank(volume.intent)

    def number(self, volume: WorldVolume) -> tuple[int, int]:
        """The device's number."""
        return 259, list(self.volumes).index(volume.id)

    def mounts(self, node: Node) -> tuple[Mount, ...]:
        return tuple(
            Mount(target, self.number(self.volumes[id_]), "ext4", False) for target, id_ in node.mounts.items()
        )

    def file(self, node: Node, path: str) -> FileState:
        """The state of a path outside of the volumes."""
        return node.files.get(path, Absent())

    def on_volume(self, node: Node, path: str) -> tuple[str | None, int] | None:
        """A file on a mounted volume, by its full path."""
        for target, id_ in node.mounts.items():
            filesystem = self.volumes[id_].filesystem
            if path.startswith(target + "/") and filesystem:
                return filesystem.files.get(path[len(target) + 1 :])
        return None

    def pods(self, node: Node) -> Iterator[tuple[str, str, WorldVolume]]:
        """What kubelet would run: (link's path, manifest's text, its volume)."""
        for path, state in node.files.items():
            if path.startswith(MANIFESTS + "/") and isinstance(state, Link):
                found = self.on_volume(node, state.target)
                volume = self.volumes.get(state.target.split("/")[2].removeprefix("master-"))
                if found and found[0] is not None and volume:
                    yield path, found[0], volume

    def reboot(self, node: Node) -> None:
        """Power off and on: mounts and tools are gone, files and half-done formats stay."""
        for volume in self.held(node):
            volume.job = None
            if volume.filesystem:
                volume.filesystem.checked = False
        node.mounts, node.unit = {}, UnitState("loaded", "inactive", "dead")
        node.files = {path: state for path, state in node.files.items() if not path.startswith("/run/")}
        self.etcd.stop(node)

    def power_off(self, node: Node) -> None:
        """The machine is gone."""
        self.reboot(node)
        node.up = False

    def age(self, seconds: float) -> None:
        """Let everything that was written be older by so much."""
        past = int(seconds * 1e9)
        for volume in self.volumes.values():
            if found := volume.filesystem:
                found.files = {path: (text, mtime - past) for path, (text, mtime) in found.files.items()}
        for node in self.nodes.values():
            if node.unit is not None and node.unit.started_at is not None:
                node.unit = replace(node.unit, started_at=node.unit.started_at - seconds)
            node.runtimes = {
                name: replace(one, started_at=None if one.started_at is None else one.started_at - seconds)
                for name, one in node.runtimes.items()
            }
            node.files = {
                path: replace(state, mtime_ns=state.mtime_ns - past) if isinstance(state, File | Link) else state
                for path, state in node.files.items()
            }

    def links(self, node: Node) -> Mapping[str, str]:
        """Where the links in the manifest folder lead."""
        return {path: state.target for path, state in node.files.items() if isinstance(state, Link)}


def _cluster_of(volume: WorldVolume) -> str:
    return next(tag for tag in volume.tags if tag.startswith("k8s.io/etcd/"))
