"""The ports of one process on a node of the world: each call is a read or an effect of that process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from protokube.cloudprovider.aws.answer import Answer
from protokube.cloudprovider.aws.tracking import Tracking
from protokube.core.controlplane.model import Health
from protokube.core.disks.actions import (
    CheckFilesystem,
    FormatVolume,
    GrowFilesystem,
    MountVolume,
    TakeBackFirstStart,
)
from protokube.core.disks.model import Blank, Disk, Ext4, NoDisk, VolumeContents
from protokube.core.dns.model import ChangeKind, OwnedRecord, RecordChange, RecordSet
from protokube.core.etcd.actions import GiveAnyTurnBack, TakeAnyTurn, TellAuthorities, UpdateMember
from protokube.core.etcd.health import ClusterView
from protokube.core.etcd.model import EtcdPeerMember, HealthQuestion, LocalMember, NotListening, ServedEtcd
from protokube.core.etcd.running import MemberStatus, PeerAbout
from protokube.core.kubelet.model import KubeletBinary, Machine
from protokube.core.model import GIB, Unknown
from protokube.core.node.actions import MakeDirectory, MakeLink, RemoveFile, Unlink, WriteFile
from protokube.core.node.model import File, FileState, Link, Mount, OnVolume, UnitState
from protokube.core.objects.actions import DecideRequest
from protokube.core.objects.assess import has_fields
from protokube.core.objects.channels import read_record, read_written, record_key, text_of
from protokube.core.objects.model import ChannelFacts, Lease, Manifest, ObjectFacts, ObjectKey, key_of
from protokube.core.pki.actions import IssueCertificate, MakeAuthorities
from protokube.core.pki.model import Authorities, Certificate, Damaged, Material, NoAuthorities
from protokube.core.static_pod import manifest_image
from protokube.core.volumes.model import CloudSnapshot, CloudVolume
from protokube.errors import (
    DeviceConflictError,
    NotListeningError,
    OutcomeUnknownError,
    ProviderError,
    TaggingForbiddenError,
    VolumeDeniedError,
    VolumeInUseError,
)
from protokube.pki.authorities import add_missing, make_first, read_authorities
from protokube.pki.copies import copy
from protokube.pki.x509 import issue
from tests.rounds.world import CLUSTER, KUBELET, Filesystem, Impossible, Job, WorldVolume

if TYPE_CHECKING:
    from tests.rounds.process import Process

T = TypeVar("T")


class Port:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._world, self._node = process.world, process.node


class Cloud(Port):
    """A cloud like EC2: who this machine is comes from another answer than the volumes, and knows what that hides."""

    remote = True

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self.tracking = Tracking(self._world.monotonic)
        self.may_tag = True

    def cluster_id(self) -> str:
        return CLUSTER

    def snapshot(self, *, volumes: bool) -> CloudSnapshot:
        instance = self._part("instance", lambda: self._world.instance(self._node))
        if not volumes:
            return CloudSnapshot(instance, can_tag=self.may_tag)
        found = self._part("volumes", self._volumes)
        return CloudSnapshot(instance, found, self._part("peers", self._world.peers), self.may_tag)

    def _part(self, name: str, read: Callable[[], T]) -> T | Unknown:
        try:
            with self._process.reading(name):
                return read()
        except ProviderError as error:
            return Unknown(str(error))

    def _volumes(self) -> tuple[CloudVolume, ...]:
        mapping = {str(volume.device): volume.id for volume in self._world.held(self._node)}
        answer = Answer(self._world.monotonic(), self._node.name, self._world.describe(), mapping, young=True)
        return self.tracking.shown(answer)

    def attach(self, volume_id: str) -> None:
        with self._process.effect("attach"), self.tracking.request(volume_id) as device:
            volume = self._world.volumes[volume_id]
            if volume.holder is not None:
                raise VolumeInUseError(f"{volume_id} is already attached to an instance")
            if volume.error:
                raise VolumeDeniedError(volume.error)
            if device in {one.device for one in self._world.held(self._node)}:
                raise DeviceConflictError(device, f"{device} is already in use")
            trouble = self._world.trouble()
            if trouble == "throttled":
                raise ProviderError("request limit exceeded")
            self._world.attach(self._node, volume, device)
            if trouble == "lost":
                raise OutcomeUnknownError("no answer")

    def tag(self, volume_id: str, key: str, value: str) -> None:
        with self._process.effect("tag"):
            volume = self._world.volumes[volume_id]
            if volume.holder != self._node.name:
                raise Impossible(f"{self._node.name} tags {volume_id}, which {volume.holder} holds")
            if not self._world.can_tag:
                self.may_tag = False
                raise TaggingForbiddenError("tags are forbidden here")
            volume.tags[key] = value

    def announce(self) -> None:
        with self._process.effect("announce"):
            if self._node.told is not None:
                self._node.told = self._node.address

    def close(self) -> None:
        pass


class Disks(Port):
    def inspect(self, volumes: Sequence[CloudVolume]) -> Mapping[str, Disk | NoDisk | Unknown]:
        with self._process.reading("inspect"):
            found: dict[str, Disk | NoDisk | Unknown] = {}
            for volume in volumes:
                if error := self._process.broken.get(f"inspect {volume.id}"):
                    found[volume.id] = Unknown(str(error))
                else:
                    found[volume.id] = self._world.look(self._node, self._world.volumes[volume.id])
            self._process.seen |= {key: one.content if isinstance(one, Disk) else one for key, one in found.items()}
            return found

    def mounts(self) -> Sequence[Mount]:
        with self._process.reading("mounts"):
            return self._world.mounts(self._node)

    def barred(self) -> Mapping[str, str]:
        return self._node.barred

    def contents(self, target: str) -> VolumeContents:
        with self._process.reading("contents"):
            if target not in self._node.mounts:
                raise ProviderError(f"{target} is not mounted")
            filesystem = self._world.volumes[self._node.mounts[target]].filesystem
            assert filesystem is not None
            return filesystem.contents()

    def format(self, action: FormatVolume) -> None:
        with self._process.effect("format", lambda: self._interrupted(action)):
            volume = self._ground(action)
            if not isinstance(self._process.seen.get(volume.id), Blank):
                raise Impossible(f"format of {volume.id}, seen as {self._process.seen.get(volume.id)}")
            if volume.evidence or volume.filesystem or volume.intent not in (None, action.intent):
                raise ProviderError(f"format of {volume.id} refused: it is not blank: {volume.evidence}")
            volume.intent = action.intent
            made = Filesystem(action.intent.uuid, action.label, volume.size)
            volume.job = Job("mkfs.ext4", self._world.tool_looks, made)

    def _interrupted(self, action: FormatVolume) -> None:
        """The power fails during mkfs: what it wrote last is the intent."""
        volume = self._ground(action)
        if volume.filesystem is None and volume.evidence is None:
            volume.intent = action.intent

    def check(self, action: CheckFilesystem) -> None:
        with self._process.effect("check"):
            volume, found = self._filesystem(action)
            volume.job = Job("e2fsck", self._world.tool_looks, replace(found, checked=True))

    def grow(self, action: GrowFilesystem) -> None:
        with self._process.effect("grow", lambda: self._half_grown(action)):
            volume, found = self._filesystem(action)
            if not found.checked:
                raise Impossible(f"resize2fs of {volume.id}, which was not checked")
            volume.job = Job("resize2fs", self._world.tool_looks, replace(found, size=volume.size))

    def _half_grown(self, action: GrowFilesystem) -> None:
        """The power fails during resize2fs: the filesystem must be checked again."""
        self._filesystem(action)[1].checked = False

    def mount(self, action: MountVolume) -> None:
        with self._process.effect("mount"):
            volume, found = self._filesystem(action)
            if found.used and not found.checked:
                raise Impossible(f"mount of {volume.id}, which was not checked")
            if action.target in self._node.mounts:
                raise Impossible(f"{action.target} is mounted already")
            found.used, found.checked = True, False
            self._node.mounts[action.target] = volume.id

    def take_back(self, action: TakeBackFirstStart) -> None:
        with self._process.effect("take-back"):
            raise Impossible(f"no first start on {action.volume_id} was cut off: etcd starts whole here")

    def _filesystem(self, action: CheckFilesystem | GrowFilesystem | MountVolume) -> tuple[WorldVolume, Filesystem]:
        volume = self._ground(action)
        if not isinstance(self._process.seen.get(volume.id), Ext4):
            raise Impossible(f"{action.kind} of {volume.id}, seen as {self._process.seen.get(volume.id)}")
        if volume.filesystem is None or volume.filesystem.uuid != action.uuid or volume.intent:
            raise ProviderError(f"{action.kind} of {volume.id} refused: another filesystem than {action.uuid}")
        return volume, volume.filesystem

    def _ground(self, action: FormatVolume | CheckFilesystem | GrowFilesystem | MountVolume) -> WorldVolume:
        """Prove again what every action on an unmounted disk stands on."""
        volume = self._world.volumes[action.volume_id]
        if volume.holder != self._node.name or volume.attaching:
            raise Impossible(f"{action.kind} of {volume.id}, which {volume.holder} holds")
        if (action.number, action.size) != (self._world.number(volume), volume.size):
            raise ProviderError(f"{action.kind} of {volume.id} refused: another disk")
        if volume.id in self._node.mounts.values():
            raise Impossible(f"{action.kind} of {volume.id}, which is mounted")
        if volume.job:
            raise ProviderError(f"{action.kind} of {volume.id} refused: {volume.job.tool} is at work")
        return volume


class Files(Port):
    def read(self, paths: Sequence[str]) -> Mapping[str, FileState]:
        with self._process.reading("read"):
            return {path: self._world.file(self._node, path) for path in paths}

    def listing(self, directory: str) -> Mapping[str, FileState]:
        with self._process.reading("listing"):
            below = [path for path in self._node.files if path.rpartition("/")[0] == directory]
            below = [path for path in below if not path.endswith(".protokube-new")]
            return {path: self._world.file(self._node, path) for path in below}

    def make_directory(self, action: MakeDirectory) -> None:
        with self._process.effect("make_directory"):
            if action.volume:
                self._put(action.volume, action.path + "/", None)

    def write(self, action: WriteFile) -> None:
        with self._process.effect("write", lambda: self._half_written(action)):
            if action.volume:
                self._put(action.volume, action.path, action.content)
                self._on(action.volume).files.pop(_beside(action.path)[len(action.volume.target) + 1 :], None)
            elif action.path.startswith("/mnt/"):
                raise Impossible(f"{action.path} is written without saying which volume it lies on")
            else:
                self._expect(action.path, File)
                self._node.files.pop(_beside(action.path), None)
                self._node.files[action.path] = File(action.content, action.mode, int(self._world.clock() * 1e9))

    def _half_written(self, action: WriteFile) -> None:
        """Only the temporary file beside it stands, and it ends early."""
        beside, text = _beside(action.path), action.content[: len(action.content) // 2]
        if action.volume:
            self._put(action.volume, beside, text)
        else:
            self._node.files[beside] = File(text, action.mode, int(self._world.clock() * 1e9))

    def _put(self, volume: OnVolume, path: str, text: str | None) -> None:
        self._on(volume).put(path[len(volume.target) + 1 :], text, self._world.clock())

    def _on(self, volume: OnVolume) -> Filesystem:
        id_ = self._node.mounts.get(volume.target)
        if id_ is None or self._world.number(self._world.volumes[id_]) != volume.number:
            raise Impossible(f"a write on {volume.target}, where {id_} is mounted")
        filesystem = self._world.volumes[id_].filesystem
        assert filesystem is not None
        return filesystem

    def link(self, action: MakeLink) -> None:
        with self._process.effect("link"):
            if action.target not in self._node.files and self._world.on_volume(self._node, action.target) is None:
                raise Impossible(f"{action.path} is linked to {action.target}, which isn't there")
            self._expect(action.path, Link)
            self._node.files[action.path] = Link(action.target, int(self._world.clock() * 1e9))

    def unlink(self, action: Unlink) -> None:
        with self._process.effect("unlink"):
            self._take_away(action.path, Link)

    def remove(self, action: RemoveFile) -> None:
        """Remove a file."""
        with self._process.effect("remove"):
            self._take_away(action.path, File)

    def _take_away(self, path: str, kind: type[File] | type[Link]) -> None:
        self._expect(path, kind)
        self._node.files.pop(path, None)

    def _expect(self, path: str, kind: type[File] | type[Link]) -> None:
        """Nothing of another kind is replaced or removed."""
        found = self._node.files.get(path)
        if found is not None and not isinstance(found, kind):
            raise ProviderError(f"{path} is a {type(found).__name__}, and not a {kind.__name__}: left alone")


def _beside(path: str) -> str:
    """Where a file is written before it is renamed."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.protokube-new"


class Dns(Port):
    """A hosts file: private, a record per name and type."""

    private = True
    local = False
    watch: tuple[Path, ...] = ()

    def record_sets(self, names: frozenset[str]) -> Mapping[str, RecordSet]:
        with self._process.reading("record_sets"):
            return {name: self._record_set(name) for name in names}

    def _record_set(self, name: str) -> RecordSet:
        owned = [
            OwnedRecord(type_, values, 60, None)  # type: ignore[arg-type]
            for (where, type_), values in self._node.records.items()
            if where == name
        ]
        return RecordSet(name, tuple(owned))

    def change(self, changes: Sequence[RecordChange]) -> None:
        with self._process.effect("change", lambda: self._carry_out(changes[: len(changes) // 2])):
            self._carry_out(changes)

    def _carry_out(self, changes: Sequence[RecordChange]) -> None:
        for change in changes:
            if change.kind is ChangeKind.UPSERT:
                self._node.records[change.name, change.type] = change.values
            else:
                self._node.records.pop((change.name, change.type), None)

    def recover(self) -> None:
        with self._process.effect("recover"):
            pass


class Etcd(Port):
    def members(self, peer_url: str, cluster: str) -> Sequence[EtcdPeerMember]:
        with self._process.reading("members"):
            if (found := self._world.etcd.members_at(peer_url, self._node, cluster)) is None:
                raise ProviderError(f"nobody answers at {peer_url}")
            return found

    def about(self, peer_url: str, cluster: str) -> PeerAbout:
        with self._process.reading("about"):
            if (found := self._world.etcd.version_at(peer_url, self._node, cluster)) is None:
                raise ProviderError(f"nobody answers at {peer_url}")
            return PeerAbout(found, 0.0)


class OwnEtcd(Port):
    """The node's own members, asked at their client ports."""

    def served(self, member: LocalMember) -> ServedEtcd:
        with self._process.reading("served"):
            running = self._world.etcd.running.values()
            if not any(one.node is self._node and one.name == member.name for one in running):
                raise NotListeningError(f"{member.url}: nobody listens")
            if (found := self._world.etcd.served(self._node, member)) is None:
                raise ProviderError(f"{member.url} answers without quorum, or not in this way")
            return found

    def health(self, question: HealthQuestion) -> ClusterView:
        with self._process.reading("health"):
            etcd, own = self._world.etcd, question.at
            if (found := etcd.served(self._node, own)) is None:
                silent = NotListening(f"{own.url} answers without quorum, or not at all")
                return ClusterView(own.name, silent, silent, silent)
            status = MemberStatus(1, 1, "3.5.30", 1, 1, 1, 1, 1, 1, 1)
            peers = {
                name: PeerAbout("3.5.30", 0.0)
                for name, hosts in question.peers.items()
                for host in hosts
                for scheme in ("http", "https")
                if etcd.version_at(f"{scheme}://{host}", self._node, own.cluster) is not None
            }
            return ClusterView(own.name, status, found.members, (), peers)

    def update_member(self, action: UpdateMember) -> None:
        with self._process.effect("update-member"):
            found = self._world.etcd.served(self._node, action.at)
            ours = next((one for one in found.members if one.id == action.change.id), None) if found else None
            if ours is None or ours.peer_urls != action.change.old:
                raise ProviderError("its URLs are others by now")
            key = "etcd" if action.at.cluster == "main" else f"etcd-{action.at.cluster}"
            self._world.etcd.member_update(key, action.change.old[0], action.change.new)

    def tell(self, action: TellAuthorities) -> None:
        with self._process.effect("tell"):
            if self._world.etcd.served(self._node, action.at) is None:
                raise ProviderError("no quorum")
            key = "etcd" if action.at.cluster == "main" else f"etcd-{action.at.cluster}"
            self._world.etcd.told.setdefault(f"etcd-cluster-token-{key}", {})[action.at.name] = action.text

    def take_turn(self, action: TakeAnyTurn) -> None:
        self._turn("take-turn", action, action.old, action.text)

    def give_back(self, action: GiveAnyTurnBack) -> None:
        self._turn("give-back", action, action.text, "")

    def _turn(self, name: str, action: TakeAnyTurn | GiveAnyTurnBack, old: str, new: str) -> None:
        at = action.at
        with self._process.effect(name):
            if self._world.etcd.served(self._node, at) is None:
                raise ProviderError(f"{at.url}: no quorum")
            key = "etcd" if at.cluster == "main" else f"etcd-{at.cluster}"
            self._world.etcd.set_turn(f"etcd-cluster-token-{key}", action, old, new)


class Pki(Port):
    """Real authorities and certificates; the store is the world's, and a node's directory is a dict of its own."""

    def certificates(self) -> Mapping[str, Certificate | Damaged | Unknown]:
        with self._process.reading("certificates"):
            return dict(self._node.certificates)

    def clock_in_sync(self) -> bool:
        with self._process.reading("clock"):
            return self._node.clock_in_sync

    def authorities(self, cluster: str) -> Authorities | NoAuthorities:
        with self._process.reading("authorities"):
            found = read_authorities(self._world.store, cluster)
            return NoAuthorities() if found is None else found.document.public()

    def make_authorities(self, action: MakeAuthorities) -> None:
        with self._process.effect("make-authorities"):
            make = make_first if action.first else add_missing
            make(self._world.store, action.cluster, action.names, self._world.clock())

    def issue(self, action: IssueCertificate) -> None:
        with self._process.effect("issue"):
            found = read_authorities(self._world.store, action.cluster)
            if found is None:
                raise ProviderError("the store shows no authorities")
            if action.wanted.material is Material.LEAF:
                authority = found.document.authorities[action.wanted.authority]
                certificate, _ = issue(action.wanted, authority, self._world.clock())
            else:
                certificate, _ = copy(action.wanted, found.document)
            self._node.certificates[action.wanted.name] = certificate


def _claimed(node: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(one["address"] for one in node.get("status", {}).get("addresses", ()))


class Objects(Port):
    """The machine's API server, which lays what is applied over what is there."""

    def look(self, keys: Sequence[ObjectKey]) -> ObjectFacts:
        with self._process.reading("objects"):
            if self._node.api_down is not None:
                return ObjectFacts(asked=True, not_ready=self._node.api_down)
            found = {one: self._world.objects.get(one) for one in keys}
            nodes = {key.name: _claimed(one) for key, one in self._world.objects.items() if key.kind == "Node"}
            requests = tuple(self._world.requests.values())
            self._node.asked_for = False
            facts = ObjectFacts(asked=True, found=found, ca="Q0E=", requests=requests, nodes=nodes)
            lease = Lease(self._world.lease, bool(self._world.lease))
            channels = tuple(self._channel(name, wanted) for name, wanted in self._world.channels.items())
            return replace(facts, tokens=self._world.tokens, channels=channels, lease=lease)

    def _channel(self, name: str, wanted: tuple[Manifest, ...]) -> ChannelFacts:
        record, there = read_record(self._world.objects.get(record_key(name))), self._world.objects
        assert not isinstance(record, Unknown)
        keys = {key_of(one): one for one in wanted}
        differing = frozenset(key for key, one in keys.items() if not has_fields(there.get(key), one))
        owned = frozenset(one.key for one in record if one.key not in keys and one.key in there)
        text, written = text_of(wanted), read_written(there.get(record_key(name)))
        return ChannelFacts(name, wanted, record, differing, owned, text=text, written=written)

    def changed(self) -> bool:
        return self._node.asked_for

    def decide(self, action: DecideRequest) -> None:
        with self._process.effect("decide-request"):
            if self._world.requests.pop(action.request, None) is not None:
                self._world.decided[action.request] = action.approve

    def remove(self, key: ObjectKey, owner: str) -> None:
        with self._process.effect("remove-object"):
            self._world.objects.pop(key, None)

    def take_lease(self, node: str) -> None:
        with self._process.effect("take-lease"):
            self._world.lease = self._world.lease or node

    def apply(self, manifest: Manifest, owner: str) -> None:
        with self._process.effect("apply-object"):
            if self._node.api_down is not None:
                raise ProviderError(self._node.api_down)
            key = key_of(manifest)
            self._world.objects[key] = {**self._world.objects.get(key, {}), **manifest}


class Healths(Port):
    """etcd answers where it runs; a component does where kubelet runs its pod, unless that pod is a bad one."""

    def ask(self, url: str) -> Health:
        with self._process.reading("health"):
            node = next((one for one in self._world.nodes.values() if f"//{one.address}:" in url), self._node)
            if node.ill:
                return Health(503, node.ill)
            if not node.up:
                raise ProviderError(f"GET {url}: timed out")
            component = _PORTS.get(int(url.rpartition(":")[2].partition("/")[0]))
            if component is None:
                if any(one.node is node for one in self._world.etcd.running.values()):
                    return Health(200, '{"health":"true"}')
                raise NotListeningError(f"GET {url}: connection refused")
            link = node.files.get(f"/etc/kubernetes/manifests/{component}.manifest")
            pod = node.files.get(link.target) if isinstance(link, Link) else None
            starts = node.kubelet_runs and all(one.active == "active" for one in node.runtimes.values())
            runs = isinstance(pod, File) and starts
            if not starts and component in node.leftover:
                return Health(200, "ok")
            if not runs or any(word in str(pod) for word in node.bad_words):
                raise NotListeningError(f"GET {url}: connection refused")
            if url.endswith("/version"):
                assert isinstance(pod, File) and pod.text is not None
                return Health(200, f'{{"gitVersion": "{(manifest_image(pod.text) or "").rpartition(":")[2]}"}}')
            return Health(200, "ok")


_PORTS = {6443: "kube-apiserver", 10257: "kube-controller-manager", 10259: "kube-scheduler", 10256: "kube-proxy"}


class Probe(Port):
    def machine(self) -> Machine:
        with self._process.reading("machine"):
            return Machine(8 * GIB, 2)

    def kubelet(self, named: str | None = None) -> KubeletBinary | None:
        with self._process.reading("kubelet"):
            return None if self._world.kubelet is None else KubeletBinary(self._world.kubelet, frozenset())


class Services(Port):
    def state(self, unit: str) -> UnitState:
        with self._process.reading("unit"):
            if unit != KUBELET:
                return self._node.runtimes.get(unit, UnitState("not-found", "inactive", "dead"))
            assert self._node.unit is not None
            return self._node.unit

    def program(self, unit: str) -> str | None:
        return None

    def start(self, unit: str) -> None:
        with self._process.effect("start"):
            late = self._process.observer.uptime() >= self._process.config.kubelet.gate_timeout
            if not late and any(volume.attaching for volume in self._world.held(self._node)):
                raise Impossible("kubelet is started while a volume is attaching")
            self._node.unit = UnitState("loaded", "active", "running", started_at=self._world.clock())

    def restart(self, unit: str) -> None:
        with self._process.effect("restart"):
            self._world.etcd.stop(self._node)
            self._node.unit = UnitState("loaded", "active", "running", started_at=self._world.clock())
