"""One life of the program on a node of the world: the ports, with a record of every call, faults, and a kill.

`Killed` is raised before, in the middle of or after the n-th effect and from then on by every call of that process,
as for a program that is gone. A new process on the same world knows nothing of the old one.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, TypeVar

from msgspec.structs import replace

from protokube.apply import apply
from protokube.config.templates import load_templates
from protokube.core.action import Facet
from protokube.core.backup.model import BackupSettings
from protokube.core.controlplane.model import ControlPlaneSettings
from protokube.core.disks.model import DiskSettings
from protokube.core.dns.model import DnsSettings
from protokube.core.etcd.model import EtcdSettings, EtcdTemplate
from protokube.core.etcd.turns import LIFE
from protokube.core.kubelet.model import KubeletSettings
from protokube.core.model import Fault, Moment
from protokube.core.pki.model import PkiSettings
from protokube.core.plan import plan
from protokube.core.settings import NodeConfig
from protokube.core.steps import Step
from protokube.core.volumes.model import VolumeSettings
from protokube.errors import (
    OutcomeUnknownError,
    ProviderError,
)
from protokube.observe.observer import Observer
from protokube.ports import Readers
from protokube.reconcile import MOST_PASSES, Cause, Memory, _recorded, dry_run, reconcile
from protokube.report.model import Report
from protokube.together import Limited
from tests.rounds.backups import Backups
from tests.rounds.machine import Cloud, Disks, Dns, Etcd, Files, Healths, Objects, OwnEtcd, Pki, Probe, Services
from tests.rounds.world import Node, World

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
    "is_kubelet": ("kubelet.is_kubelet",),
    "gate_timeout": ("kubelet.gate_timeout",),
    "kubelet_restarts": ("kubelet.restarts_per_hour",),
    "kubernetes_version": ("kubelet.version", "components.version"),
    "control_plane": ("kubelet.control_plane",),
    "api": ("kubelet.api",),
    "component_layers": ("components.layers",),
    "kubelet_layers": ("kubelet.layers",),
    "master_kubelet_layers": ("kubelet.master_layers",),
    "group_kubelet_layers": ("kubelet.group_layers",),
    "node_labels": ("kubelet.node_labels",),
    "master": ("kubelet.master",),
    "etcd_tls": ("etcd.tls",),
    "store_shared": ("etcd.store_shared",),
    "etcd_quota": ("etcd.quota",),
    "node_clients": ("etcd.node_clients",),
    "trust_clock": ("pki.trust_clock",),
    "backup_every": ("backup.every",),
    "takes_backups": ("etcd.takes_backups",),
    "backup_keep": ("backup.keep",),
    "backup_keep_daily": ("backup.keep_daily",),
}
"""Where an option that a test changes stands in the configuration."""


def node_config(**changes: object) -> NodeConfig:
    """A master's configuration; it believes its peers at once, since reconciles follow one another at once here.

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
        "pki": {},
        "backup": {},
        "components": {},
    }
    for name, value in values.items():
        for place in _PLACES[name]:
            section, _, field = place.partition(".")
            sections[section][field] = value
    return NodeConfig(
        master=bool(values["master"]),
        control_plane=bool(values.get("control_plane")),
        volumes=VolumeSettings(**sections["volumes"]),
        disks=DiskSettings(**sections["disks"]),
        etcd=EtcdSettings(**sections["etcd"]),
        dns=DnsSettings(**sections["dns"]),
        kubelet=KubeletSettings(**sections["kubelet"]),
        pki=PkiSettings(**sections["pki"]),
        backup=BackupSettings(**sections["backup"]),
        components=ControlPlaneSettings(**sections["components"]) if "component_layers" in values else None,
    )


class Process:
    """The program, once started, on a node. `kill`: (number of the effect, "before", "middle" or "after").

    `fail` is like `kill`, and raises an error instead. `broken` maps a call's name to the error that it raises;
    `broken_once` a name and which of its calls, counted from 1; `hooks` a name to something that happens right before
    it, and `before` the number of an effect. `aside` runs calls side by side.
    """

    def __init__(
        self,
        world: World,
        node: Node,
        config: NodeConfig | None = None,
        *,
        kill: tuple[int, str] | None = None,
        fail: tuple[int, str] | None = None,
        uptime: float = 0.0,
        aside: Callable[[], Limited[Any]] | None = None,
    ) -> None:
        self.world, self.node, self.config = world, node, config or node_config()
        self.kill, self.fail, self.uptime = kill, fail, uptime
        self.dead = False
        self.effects: list[str] = []
        self.reads: Counter[str] = Counter()
        self.broken: dict[str, Exception] = {}
        self.broken_once: dict[tuple[str, int], Exception] = {}
        self.hooks: dict[str, Callable[[], None]] = {}
        self.before: dict[int, Callable[[], None]] = {}
        self.seen: dict[str, object] = {}
        self.cloud = cloud = Cloud(self)
        disks, files, dns, services = Disks(self), Files(self), Dns(self), Services(self)
        self.pki, self.backups, own, objects = Pki(self), Backups(self), OwnEtcd(self), Objects(self)
        parts = (Etcd(self), Probe(self), dns, services, self.pki, self.backups, own, objects, Healths(self))
        self.readers = Readers(cloud, disks, files, *parts)
        self.writers: dict[str, object] = {
            "cloud": cloud,
            "disks": disks,
            "files": files,
            "dns": dns,
            "services": services,
            "pki": self.pki,
            "backups": self.backups,
            "etcd": own,
            "objects": objects,
        }
        reading = aside() if aside else None
        started = world.monotonic() - uptime
        self.observer: Observer = _Observer(self.config, self.readers, started=started, reading=reading)
        self.observer.clocks = world
        self.memory = Memory(acting=aside()) if aside else Memory()

    def round(self, cause: Cause = Cause.CLOCK, passes: int = MOST_PASSES) -> Report:
        """One reconcile, of so many passes at most."""
        left = iter(range(passes))
        stop = lambda: next(left, None) is None  # noqa: E731
        return reconcile(self.observer, self.writers, self.memory, remote_cloud=True, cause=cause, stop=stop)

    def rounds(self, most: int = 40) -> Report:
        """Reconciles until nothing is done or waited for any more; etcd lives in between."""
        quiet = 0
        for _ in range(most):
            report = self.round()
            with self.world.lock:
                self.world.etcd.tick()
            quiet = 0 if report.steps or report.in_flight else quiet + 1
            if quiet == 2:  # etcd may have started after the first one
                return report
        raise AssertionError(f"not at rest after {most} reconciles: {report.steps} {report.left}")

    def steps(self, order: Callable[[list[Step]], list[Step]] = list) -> Iterator[Step]:
        """One reconcile with the steps of each pass one after the other, in the order given; yields before each.

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
            if error := self.broken_once.get((name, self.reads[name])):
                raise error
            yield

    @contextmanager
    def effect(self, name: str, half: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Carry out an effect. `half` is what it leaves behind when it is cut off in its middle."""
        with self.world.lock:
            self._alive(name)
            self.effects.append(name)
            number = len(self.effects)
        if hook := self.before.get(number):
            hook()  # without the lock, which another node's slow reads want in a thread of theirs
        with self.world.lock:
            self._cut(name, (number, "before"))
            if (number, "middle") in (self.kill, self.fail):
                half()
                self._cut(name, (number, "middle"))
            yield
            self._cut(name, (number, "after"))

    def _cut(self, name: str, where: tuple[int, str]) -> None:
        if self.kill == where:
            self.dead = True
            raise Killed
        if self.fail == where:
            raise OutcomeUnknownError(f"{name}: no answer") if where[1] == "after" else ProviderError(f"{name} fails")

    def _alive(self, name: str) -> None:
        if self.dead:
            raise Killed
        if hook := self.hooks.get(name):
            hook()
        if error := self.broken.get(name):
            raise error


class _Observer(Observer):
    """Looks at the clocks of the world."""

    clocks: World

    def uptime(self) -> float:
        return self.clocks.monotonic() - self.started

    def _moment(self) -> Moment:
        return Moment(self.clocks.clock(), self.uptime())


def survive(process: Process, run: Callable[[], object]) -> bool:
    """Run until the end or the kill; the answer says whether the process survived."""
    with suppress(Killed):
        run()
        return True
    return False


def later(world: World, seconds: float = 10.0) -> None:
    """Let time pass: certificates stand for a while before members restart for them."""
    ahead = world.clock() + seconds - time.time()
    world.clock = lambda: time.time() + ahead


def settled(world: World, processes: list[Process]) -> list[Report]:
    """Rounds in turns until nothing is done three times running: between two of them etcd may have restarted."""
    quiet = 0
    for _ in range(80):
        later(world)
        reports = [process.round() for process in processes]
        world.etcd.tick()
        quiet = 0 if any(report.steps or report.in_flight for report in reports) else quiet + 1
        if quiet == 3:
            return reports
        if not any(report.steps for report in reports):
            world.age(61)
    raise AssertionError([(report.steps, report.left) for report in reports])


def interleave(world: World, nodes: list[Node], config: NodeConfig, seed: int, count: int) -> list[Process]:
    """Take `count` actions of the nodes' daemons in any order; daemons are killed, etcd restarts late, and clients
    write all the time. Returns the daemons."""
    pick = random.Random(seed)
    processes = {node.name: Process(world, node, config) for node in nodes}
    lives: dict[str, Iterator[Step]] = {name: process.steps() for name, process in processes.items()}
    for number in range(count):
        node = pick.choice(nodes)
        if pick.random() < 0.05:
            processes[node.name] = Process(world, node, config)
            lives[node.name] = processes[node.name].steps()
        elif next(lives[node.name], None) is None:
            lives[node.name] = processes[node.name].steps()
        if pick.random() < 0.4:
            world.etcd.tick()
        assert world.etcd.write("etcd", f"w{number}") and not world.etcd.violations
    later(world, LIFE)  # etcd forgets the turn of a daemon that was killed
    return list(processes.values())
