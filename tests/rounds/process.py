"""One life of the program on a node of the world: the ports, with a record of every call, faults, and a kill.

`Killed` is raised before or after the n-th effect and from then on by every call of that process, as for a program
that is gone. A new process on the same world knows nothing of the old one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from protokube.apply import apply
from protokube.cloudprovider.aws.answer import Answer
from protokube.cloudprovider.aws.tracking import Tracking
from protokube.config.load import load_templates
from protokube.core.action import Facet
from protokube.core.disks.actions import CheckFilesystem, FormatVolume, GrowFilesystem, MountVolume
from protokube.core.disks.model import Blank, Disk, DiskSettings, Ext4, NoDisk, VolumeContents
from protokube.core.dns.model import ChangeKind, DnsSettings, OwnedRecord, RecordChange, RecordSet
from protokube.core.etcd.model import EtcdPeerMember, EtcdSettings, EtcdTemplate
from protokube.core.kubelet.model import KubeletBinary, KubeletSettings, Machine
from protokube.core.model import GIB, Fault, Unknown
from protokube.core.node.actions import MakeDirectory, MakeLink, RemoveFile, Unlink, WriteFile
from protokube.core.node.model import File, FileState, Link, Mount, OnVolume, UnitState
from protokube.core.plan import plan
from protokube.core.settings import NodeConfig
from protokube.core.steps import Step
from protokube.core.volumes.model import CloudSnapshot, CloudVolume, VolumeSettings
from protokube.errors import (
    DeviceConflictError,
    OutcomeUnknownError,
    ProviderError,
    TaggingForbiddenError,
    VolumeDeniedError,
    VolumeInUseError,
)
from protokube.observe import Observer
from protokube.ports import Readers
from protokube.reconcile import MOST_PASSES, Cause, Memory, _recorded, dry_run, reconcile
from protokube.report.model import Report
from tests.rounds.world import CLUSTER, KUBELET, Filesystem, Impossible, Job, Node, World, WorldVolume

T = TypeVar("T")


class Killed(BaseException):
    """The program was killed here."""


@cache
def templates() -> Mapping[str, EtcdTemplate]:
    """The templates that the project ships."""
    faults: list[Fault] = []
    found = load_templates(None, faults)
    assert not faults, faults
    return found


_PLACES: Mapping[str, tuple[str, ...]] = {
    "cluster_id": ("volumes.cluster_id",),
    "may_format": ("disks.may_format",),
    "etcd_image": ("etcd.image",),
    "default_image": ("etcd.default_image",),
    "etcd_bootstrap": ("etcd.assume_new",),
    "peers_patience": ("etcd.peers_patience",),
    "manifest_dir": ("etcd.manifest_dir", "kubelet.manifest_dir"),
    "dns_suffix": ("etcd.dns_suffix", "dns.suffix", "disks.dns_suffix"),
    "dns_adopt": ("dns.adopt",),
    "dns_removals": ("dns.removals",),
    "kubelet_unit": ("etcd.kubelet_unit", "kubelet.unit"),
    "gate_timeout": ("kubelet.gate_timeout",),
    "kubelet_restarts": ("kubelet.restarts_per_hour",),
    "kubernetes_version": ("kubelet.version",),
    "kubelet_layers": ("kubelet.layers",),
    "master_kubelet_layers": ("kubelet.master_layers",),
    "group_kubelet_layers": ("kubelet.group_layers",),
    "node_labels": ("kubelet.node_labels",),
    "master": ("kubelet.master",),
}
"""Where an option that a test changes stands in the configuration."""


def node_config(**changes: object) -> NodeConfig:
    """A master's configuration; it believes its peers at once, since rounds follow one another without delay here.

    `changes` are options by name; `dns` is a provider's name, and `templates` replaces the etcd templates.
    """
    values: dict[str, object] = {
        "master": True,
        "peers_patience": 0.0,
        "dns": "hosts",
        "templates": templates(),
    } | changes
    known, names = values.pop("templates"), values.pop("dns")
    assert isinstance(known, Mapping)
    sections: dict[str, dict[str, Any]] = {
        "volumes": {"etcd_clusters": frozenset(known)},
        "disks": {"layouts": known},
        "etcd": {"templates": known, "private_names": names == "hosts", "names_kept": names != "none"},
        "dns": {"private": names == "hosts", "kept": names != "none"},
        "kubelet": {},
    }
    for name, value in values.items():
        for place in _PLACES[name]:
            section, _, field = place.partition(".")
            sections[section][field] = value
    return NodeConfig(
        master=bool(values["master"]),
        volumes=VolumeSettings(**sections["volumes"]),
        disks=DiskSettings(**sections["disks"]),
        etcd=EtcdSettings(**sections["etcd"]),
        dns=DnsSettings(**sections["dns"]),
        kubelet=KubeletSettings(**sections["kubelet"]),
    )


class Process:
    """The program, once started, on a node. `kill`: (number of the effect, "before" or "after").

    `broken` maps a call's name to the error that it raises; `hooks` to something that happens right before it.
    """

    def __init__(
        self,
        world: World,
        node: Node,
        config: NodeConfig | None = None,
        *,
        kill: tuple[int, str] | None = None,
        uptime: float = 0.0,
    ) -> None:
        self.world, self.node, self.config = world, node, config or node_config()
        self.kill, self.uptime = kill, uptime
        self.dead = False
        self.effects: list[str] = []
        self.reads: Counter[str] = Counter()
        self.broken: dict[str, Exception] = {}
        self.hooks: dict[str, Callable[[], None]] = {}
        self.seen: dict[str, object] = {}
        cloud, disks, files, dns, services = _Cloud(self), _Disks(self), _Files(self), _Dns(self), _Services(self)
        self.readers = Readers(cloud, disks, files, _Etcd(self), _Probe(self), dns, services)
        self.writers: dict[str, object] = {
            "cloud": cloud,
            "disks": disks,
            "files": files,
            "dns": dns,
            "services": services,
        }
        self.observer = Observer(self.config, self.readers, started=time.monotonic() - uptime)
        self.memory = Memory()

    def round(self, cause: Cause = Cause.CLOCK) -> Report:
        """One round."""
        return reconcile(self.observer, self.writers, self.memory, remote_cloud=True, cause=cause)

    def rounds(self, most: int = 40) -> Report:
        """Rounds until nothing is done or waited for any more; etcd lives in between."""
        quiet = 0
        for _ in range(most):
            report = self.round()
            with self.world.lock:
                self.world.etcd.tick()
            quiet = 0 if report.steps or report.in_flight else quiet + 1
            if quiet == 2:  # etcd may have started after the first one
                return report
        raise AssertionError(f"not at rest after {most} rounds: {report.steps} {report.left}")

    def steps(self, order: Callable[[list[Step]], list[Step]] = list) -> Iterator[Step]:
        """One round with the steps of each pass one after the other, in the order given; yields before each.

        `order` may leave steps out: the next pass plans them again.
        """
        view = self.observer.first(self.memory.history.next_reconcile())
        for _ in range(10 * MOST_PASSES):
            planned = order(plan(view.judged, view.history.failed).steps)
            if not planned:
                self.memory.history = view.history
                return
            outcomes = []
            for step in planned:
                yield step
                outcomes += apply(self.writers, [step], self.memory.acting)
            view = replace(view, history=_recorded(view.history, outcomes, view.observed.at.uptime))
            changed = frozenset[Facet]().union(*(one.step.action.changes for one in outcomes))
            view = self.observer.again(view, changed)
        raise AssertionError(f"no end: {planned}")

    def dry_run(self) -> Report:
        """What would be done."""
        return dry_run(Observer(self.config.for_dry_run(), self.readers, started=self.observer.started))

    @contextmanager
    def reading(self, name: str) -> Iterator[None]:
        with self.world.lock:
            self._alive(name)
            self.reads[name] += 1
            yield

    @contextmanager
    def effect(self, name: str) -> Iterator[None]:
        with self.world.lock:
            self._alive(name)
            self.effects.append(name)
            number = len(self.effects)
            if self.kill == (number, "before"):
                self._die()
            yield
            if self.kill == (number, "after"):
                self._die()

    def _alive(self, name: str) -> None:
        if self.dead:
            raise Killed
        if hook := self.hooks.get(name):
            hook()
        if error := self.broken.get(name):
            raise error

    def _die(self) -> None:
        self.dead = True
        raise Killed


class _Port:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._world, self._node = process.world, process.node


class _Cloud(_Port):
    """A cloud like EC2: who this machine is comes from another answer than the volumes, and knows what that hides."""

    remote = True

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self._tracking = Tracking(time.monotonic)
        self._can_tag = True

    def cluster_id(self) -> str:
        return CLUSTER

    def snapshot(self, *, volumes: bool) -> CloudSnapshot:
        instance = self._part("instance", lambda: self._world.instance(self._node))
        if not volumes:
            return CloudSnapshot(instance, can_tag=self._can_tag)
        found = self._part("volumes", self._volumes)
        return CloudSnapshot(instance, found, self._part("peers", self._world.peers), self._can_tag)

    def _part(self, name: str, read: Callable[[], T]) -> T | Unknown:
        try:
            with self._process.reading(name):
                return read()
        except ProviderError as error:
            return Unknown(str(error))

    def _volumes(self) -> tuple[CloudVolume, ...]:
        mapping = {str(volume.device): volume.id for volume in self._world.held(self._node)}
        answer = Answer(time.monotonic(), self._node.name, self._world.describe(), mapping, young=True)
        return self._tracking.shown(answer)

    def attach(self, volume_id: str) -> None:
        with self._process.effect("attach"), self._tracking.request(volume_id) as device:
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
                self._can_tag = False
                raise TaggingForbiddenError("tags are forbidden here")
            volume.tags[key] = value

    def announce(self) -> None:
        with self._process.effect("announce"):
            if self._node.told is not None:
                self._node.told = self._node.address

    def close(self) -> None:
        pass


class _Disks(_Port):
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
        with self._process.effect("format"):
            volume = self._ground(action)
            if not isinstance(self._process.seen.get(volume.id), Blank):
                raise Impossible(f"format of {volume.id}, seen as {self._process.seen.get(volume.id)}")
            if volume.evidence or volume.filesystem or volume.intent not in (None, action.intent):
                raise ProviderError(f"format of {volume.id} refused: it is not blank: {volume.evidence}")
            volume.intent = action.intent
            made = Filesystem(action.intent.uuid, action.label, volume.size)
            volume.job = Job("mkfs.ext4", self._world.tool_looks, made)

    def check(self, action: CheckFilesystem) -> None:
        with self._process.effect("check"):
            volume, found = self._filesystem(action)
            volume.job = Job("e2fsck", self._world.tool_looks, replace(found, checked=True))

    def grow(self, action: GrowFilesystem) -> None:
        with self._process.effect("grow"):
            volume, found = self._filesystem(action)
            if not found.checked:
                raise Impossible(f"resize2fs of {volume.id}, which was not checked")
            volume.job = Job("resize2fs", self._world.tool_looks, replace(found, size=volume.size))

    def mount(self, action: MountVolume) -> None:
        with self._process.effect("mount"):
            volume, found = self._filesystem(action)
            if found.used and not found.checked:
                raise Impossible(f"mount of {volume.id}, which was not checked")
            if action.target in self._node.mounts:
                raise Impossible(f"{action.target} is mounted already")
            found.used, found.checked = True, False
            self._node.mounts[action.target] = volume.id

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


class _Files(_Port):
    def read(self, paths: Sequence[str]) -> Mapping[str, FileState]:
        with self._process.reading("read"):
            return {path: self._world.file(self._node, path) for path in paths}

    def listing(self, directory: str) -> Mapping[str, FileState]:
        with self._process.reading("listing"):
            below = [path for path in self._node.files if path.rpartition("/")[0] == directory]
            return {path: self._world.file(self._node, path) for path in below}

    def make_directory(self, action: MakeDirectory) -> None:
        with self._process.effect("make_directory"):
            if action.volume:
                self._on(action.volume).put(action.path[len(action.volume.target) + 1 :] + "/", None)

    def write(self, action: WriteFile) -> None:
        with self._process.effect("write"):
            if action.volume:
                self._on(action.volume).put(action.path[len(action.volume.target) + 1 :], action.content)
            elif action.path.startswith("/mnt/"):
                raise Impossible(f"{action.path} is written without saying which volume it lies on")
            else:
                self._node.files[action.path] = File(action.content, action.mode, time.time_ns())

    def _on(self, volume: OnVolume) -> Filesystem:
        id_ = self._node.mounts.get(volume.target)
        if id_ is None or self._world.number(self._world.volumes[id_]) != volume.number:
            raise Impossible(f"a write on {volume.target}, where {id_} is mounted")
        filesystem = self._world.volumes[id_].filesystem
        assert filesystem is not None
        return filesystem

    def link(self, action: MakeLink) -> None:
        with self._process.effect("link"):
            if self._world.on_volume(self._node, action.target) is None:
                raise Impossible(f"{action.path} is linked to {action.target}, which isn't there")
            self._node.files[action.path] = Link(action.target, time.time_ns())

    def unlink(self, action: Unlink) -> None:
        with self._process.effect("unlink"):
            if isinstance(self._node.files.get(action.path), Link):
                del self._node.files[action.path]

    def remove(self, action: RemoveFile) -> None:
        with self._process.effect("remove"):
            if isinstance(self._node.files.get(action.path), File):
                del self._node.files[action.path]


class _Dns(_Port):
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
        with self._process.effect("change"):
            for change in changes:
                if change.kind is ChangeKind.UPSERT:
                    self._node.records[change.name, change.type] = change.values
                else:
                    self._node.records.pop((change.name, change.type), None)

    def recover(self) -> None:
        with self._process.effect("recover"):
            pass


class _Etcd(_Port):
    def members(self, peer_url: str) -> Sequence[EtcdPeerMember]:
        with self._process.reading("members"):
            if (found := self._world.etcd.members_at(peer_url)) is None:
                raise ProviderError(f"nobody answers at {peer_url}")
            return found


class _Probe(_Port):
    def machine(self) -> Machine:
        with self._process.reading("machine"):
            return Machine(8 * GIB, 2)

    def kubelet(self, named: str | None = None) -> KubeletBinary | None:
        with self._process.reading("kubelet"):
            return None


class _Services(_Port):
    def state(self, unit: str) -> UnitState:
        with self._process.reading("unit"):
            assert unit == KUBELET and self._node.unit is not None
            return self._node.unit

    def program(self, unit: str) -> str | None:
        return None

    def start(self, unit: str) -> None:
        with self._process.effect("start"):
            late = self._process.uptime >= self._process.config.kubelet.gate_timeout
            if not late and any(volume.attaching for volume in self._world.held(self._node)):
                raise Impossible("kubelet is started while a volume is attaching")
            self._node.unit = UnitState("loaded", "active", "running", started_at=time.time())

    def restart(self, unit: str) -> None:
        with self._process.effect("restart"):
            self._world.etcd.stop(self._node)
            self._node.unit = UnitState("loaded", "active", "running", started_at=time.time())


def survive(process: Process, run: Callable[[], object]) -> bool:
    """Run until the end or the kill; the answer says whether the process survived."""
    with suppress(Killed):
        run()
        return True
    return False
