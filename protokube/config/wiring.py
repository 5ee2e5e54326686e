"""Chooses the adapters and puts them behind the ports. Adapters are imported when chosen, and not before.

`choose` belongs to the configuration: it reads every file that adapters are made of, and finds every fault. `wire`
makes the adapters, opens none of these files, and can't fail.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from protokube.config.load import Settings
from protokube.core.backup.actions import RemoveBackups, TakeBackup
from protokube.core.backup.model import STATE_DIR as BACKUP_STATE_DIR
from protokube.core.backup.model import BackedUp, BackupAnswers, BackupWork
from protokube.core.controlplane.model import Health
from protokube.core.disks.accepted import ACCEPTED_DIR
from protokube.core.etcd.actions import TellAuthorities, UpdateMember
from protokube.core.etcd.health import ClusterView
from protokube.core.etcd.model import EtcdPeerMember, HealthQuestion, LocalMember, ServedEtcd
from protokube.core.etcd.running import PeerAbout
from protokube.core.etcd.tls import peer_certificate
from protokube.core.kubelet.model import KubeletBinary, Machine
from protokube.core.model import Fault, Unknown
from protokube.core.node.model import UnitState
from protokube.core.objects.model import Manifest, ObjectFacts, ObjectKey
from protokube.core.objects.serving import ServingNames
from protokube.core.pki.actions import IssueCertificate, MakeAuthorities
from protokube.core.pki.model import PKI_DIR, Authorities, Certificate, Damaged, NoAuthorities
from protokube.core.settings import NodeConfig
from protokube.errors import ConfigError
from protokube.eventloop import EventLoop
from protokube.host.blockdev import BlockDevices
from protokube.host.files import NodeFiles
from protokube.ports import CloudProvider, DNSProvider, EtcdReader, Readers, Writers
from protokube.store.place import StorePlace, find_store

if TYPE_CHECKING:
    from protokube.backups.node import NodeBackups
    from protokube.etcdclient.own import OwnMembers
    from protokube.etcdclient.peers import HttpEtcdPeers
    from protokube.host.kubelet import InstalledKubelet
    from protokube.host.systemd import SystemBus
    from protokube.kubeapi.node import NodeObjects
    from protokube.pki.node import NodePki

RUN_DIR = "run/protokube"
STATE_DIR = "var/lib/protokube"
HOSTS = "etc/hosts"
BUS = "run/dbus/system_bus_socket"

T = TypeVar("T")
Wake = Callable[[str], None]
Vpc = Callable[[], tuple[str, str] | None]
Cloud = tuple[CloudProvider, tuple[Path, ...], Vpc]
"""The cloud, the directories whose changes matter to it, and how to ask for this machine's VPC."""
MakeDns = Callable[[CloudProvider, Vpc], DNSProvider | None]


class _Peers:
    """etcd's peers; the client is loaded when there is a peer to ask."""

    def __init__(self, pki: _Pki) -> None:
        self._pki = pki

    def members(self, peer_url: str, cluster: str) -> Sequence[EtcdPeerMember]:
        """See ports.EtcdPeers."""
        return self._asking(peer_url, cluster).members(peer_url)

    def about(self, peer_url: str, cluster: str) -> PeerAbout:
        """See ports.EtcdPeers."""
        return self._asking(peer_url, cluster).about(peer_url)

    def _asking(self, peer_url: str, cluster: str) -> HttpEtcdPeers:
        from protokube.etcdclient.peers import HttpEtcdPeers
        from protokube.etcdclient.transport import Tls

        if not peer_url.startswith("https:"):
            return HttpEtcdPeers()
        name, directory = peer_certificate(cluster), self._pki.node().directory
        ours = directory.read().get(name)
        tls = Tls(directory.top / name, ours.wanted.dns[-1]) if isinstance(ours, Certificate) else None
        return HttpEtcdPeers(tls=tls)


class _Kubelet:
    """The installed kubelet and its machine; what asks them is loaded in the first quiet moment."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._made: InstalledKubelet | None = None

    def _probe(self) -> InstalledKubelet:
        from protokube.host.kubelet import InstalledKubelet

        if self._made is None:
            self._made = InstalledKubelet(self._root)
        return self._made

    def machine(self) -> Machine:
        """See ports.KubeletProbe."""
        return self._probe().machine()

    def kubelet(self, named: str | None = None) -> KubeletBinary | None:
        """See ports.KubeletProbe."""
        return self._probe().kubelet(named)


class _Pki:
    """The node's PKI; it is loaded when a certificate concerns this node."""

    def __init__(self, root: str, store: StorePlace, timedated: Callable[[], bool] | None = None) -> None:
        self._root, self._store, self._timedated = root, store, timedated
        self._made: NodePki | None = None

    def node(self) -> NodePki:
        """The PKI itself."""
        from protokube.pki.node import NodePki

        if self._made is None:
            self._made = NodePki(self._root, self._store.open, timedated=self._timedated)
        return self._made

    def certificates(self) -> Mapping[str, Certificate | Damaged | Unknown]:
        """See ports.PkiReader."""
        return self.node().certificates()

    def clock_in_sync(self) -> bool:
        """See ports.PkiReader."""
        return self.node().clock_in_sync()

    def authorities(self, cluster: str) -> Authorities | NoAuthorities:
        """See ports.PkiReader."""
        return self.node().authorities(cluster)

    def make_authorities(self, action: MakeAuthorities) -> None:
        """See core/pki/actions.py."""
        self.node().make_authorities(action)

    def issue(self, action: IssueCertificate) -> None:
        """See core/pki/actions.py."""
        self.node().issue(action)


def _ask_timedated(bus: str) -> bool:
    from protokube.host.timedate import clock_in_sync

    return clock_in_sync(bus)


class _Backups:
    """The node's backups of etcd; they are loaded when one concerns this node."""

    def __init__(self, root: str, store: StorePlace, tools: str | None, wake: Wake) -> None:
        self._root, self._store, self._tools, self._wake = root, store, tools, wake
        self._made: NodeBackups | None = None

    def _node(self) -> NodeBackups:
        from protokube.backups.node import NodeBackups

        if self._made is None:
            self._made = NodeBackups(self._root, self._store, self._tools, self._wake)
        return self._made

    def work(self, etcds: Iterable[str]) -> Mapping[str, BackupWork | Unknown]:
        """See ports.BackupReader."""
        return self._node().work(etcds)

    def answers(self, cluster: str, member: BackedUp) -> BackupAnswers:
        """See ports.BackupReader."""
        return self._node().answers(cluster, member)

    def start_backup(self, action: TakeBackup) -> None:
        """See core/backup/actions.py."""
        self._node().start_backup(action)

    def remove_backups(self, action: RemoveBackups) -> None:
        """See core/backup/actions.py."""
        self._node().remove_backups(action)


class _OwnEtcd:
    """This machine's own etcd members; the client is loaded when one of them is to restart."""

    def __init__(self, root: str, peers: _Peers) -> None:
        self._certificates, self._peers = Path(root, PKI_DIR.lstrip("/")), peers

    def _members(self) -> OwnMembers:
        from protokube.etcdclient.own import OwnMembers

        return OwnMembers(self._certificates)

    def served(self, member: LocalMember) -> ServedEtcd:
        """See ports.EtcdReader."""
        return self._members().served(member)

    def health(self, question: HealthQuestion) -> ClusterView:
        """See ports.EtcdReader."""

        def about(url: str) -> PeerAbout:
            return self._peers.about(url, question.at.cluster)

        return self._members().health(question, about)

    def update_member(self, action: UpdateMember) -> None:
        """See core/etcd/actions.py."""
        self._members().update_member(action)

    def tell(self, action: TellAuthorities) -> None:
        """See core/etcd/actions.py."""
        self._members().tell(action)


class _Objects:
    """This machine's API server; its client, and TLS with it, are loaded when there is something to ask."""

    def __init__(self, root: str, port: int, wake: Wake) -> None:
        self._root, self._port, self._wake = root, port, wake
        self._made: NodeObjects | None = None

    def _node(self) -> NodeObjects:
        from protokube.kubeapi.node import NodeObjects

        if self._made is None:
            self._made = NodeObjects(self._root, self._port, _read_request, self._wake)
        return self._made

    def changed(self) -> bool:
        """See ports.ObjectReader."""
        return self._made is not None and self._made.changed()

    def look(self, keys: Sequence[ObjectKey]) -> ObjectFacts:
        """See ports.ObjectReader."""
        return self._node().look(keys)

    def apply(self, manifest: Manifest) -> None:
        """See core/objects/actions.py."""
        self._node().apply(manifest)

    def decide(self, request: str, *, approve: bool, reason: str) -> None:
        """See core/objects/actions.py."""
        self._node().decide(request, approve=approve, reason=reason)


def _read_request(pem: bytes) -> ServingNames | str:
    from protokube.pki.x509 import read_request

    return read_request(pem)


class _Health:
    """The health of this node's programs; the client is loaded when one is asked."""

    def ask(self, url: str) -> Health:
        """See ports.HealthReader."""
        from protokube.host.health import ask

        return ask(url)


class _Bus:
    """The service manager; its library is loaded, and the event loop waited for, when it is first asked."""

    def __init__(self, loop: EventLoop, address: str, wake: Wake) -> None:
        self._loop = loop
        self._address = address
        self._wake = wake
        self._made: SystemBus | None = None
        self._lock = threading.Lock()

    def _bus(self) -> SystemBus:
        from protokube.host.systemd import SystemBus

        with self._lock:
            if self._made is None:
                self._made = SystemBus(self._loop.get(), self._address, on_change=self._wake)
            return self._made

    def state(self, unit: str) -> UnitState:
        """See ports.ServiceManager."""
        return self._bus().state(unit)

    def program(self, unit: str) -> str | None:
        """See ports.ServiceManager."""
        return self._bus().program(unit)

    def start(self, unit: str) -> None:
        """See ports.ServiceManager."""
        self._bus().start(unit)

    def restart(self, unit: str) -> None:
        """See ports.ServiceManager."""
        self._bus().restart(unit)

    def close(self) -> None:
        """Let go of the bus, if it was ever asked."""
        if self._made is not None:
            self._made.close()


def own_etcd(root: str, store: StorePlace) -> EtcdReader:
    """This machine's own etcd members, to be asked by a command."""
    return _OwnEtcd(root, _Peers(_Pki(root, store)))


class Chosen(Struct, frozen=True):
    """The configuration with its open questions answered, and how to make the chosen providers from it."""

    settings: Settings
    config: NodeConfig
    cloud: Callable[[], Cloud]
    dns: MakeDns
    store: StorePlace


class Wired(Struct, frozen=True):
    """The configuration, and the ports.

    `dns` mends, at the start, a file that a crash left half written. `watch` are directories whose changes matter;
    `running` maps volumes to the process that works on each; `close` closes everything. `disks` serve the next
    configuration too. `files` are single files whose changes matter.
    """

    config: NodeConfig
    readers: Readers
    writers: Writers
    dns: DNSProvider | None
    watch: tuple[Path, ...]
    running: Callable[[], Mapping[str, int]]
    close: Callable[[], None]
    disks: BlockDevices | None = None
    files: tuple[Path, ...] = ()


def choose(settings: Settings, known: Sequence[Fault] = ()) -> Chosen:
    """Choose the providers, and read their files: inventory and TSIG key. Touches nothing.

    Raises ConfigError with every fault, the `known` ones first.
    """
    name = settings.cloud or _detected()
    names = settings.dns or ("route53" if name == "aws" else "hosts")
    config = _with_names(settings.node, names)
    faults = list(known)
    if name == "aws" or names == "route53":
        from protokube.awsenv import environment_faults

        faults += environment_faults(os.environ)
    cloud = _or_faults(lambda: _cloud(settings, name), faults)
    dns = _or_faults(lambda: _dns(settings, names), faults)
    store = _or_faults(lambda: _store(settings), faults)
    if faults or cloud is None or dns is None or store is None:
        raise ConfigError(faults)
    return Chosen(settings, config, cloud, dns, store)


def _detected() -> str:
    from protokube.cloudprovider.detect import detect_cloud

    return detect_cloud()


def _store(settings: Settings) -> StorePlace:
    default = Path(settings.root, STATE_DIR, "store")
    return find_store(settings.store, settings.store_key, default, imds_v1=settings.imds_v1)


def _with_names(config: NodeConfig, names: str) -> NodeConfig:
    """The configuration with the settings that follow from the DNS provider."""
    private, kept = names == "hosts", names != "none"
    return replace(
        config,
        dns=replace(config.dns, private=private, kept=kept),
        etcd=replace(config.etcd, private_names=private, names_kept=kept),
    )


def _or_faults(read: Callable[[], T], faults: list[Fault]) -> T | None:
    try:
        return read()
    except ConfigError as error:
        faults += error.faults
        return None


def wire(chosen: Chosen, loop: EventLoop, wake: Wake, disks: BlockDevices | None = None) -> Wired:
    """Make the adapters. Touches nothing yet.

    `loop` is the main thread's event loop, which need not run before an adapter that lives in it is asked. `disks`
    are those of the configuration before: their child processes may hang, and none is started a second time.
    """
    settings, config = chosen.settings, chosen.config
    cloud, cloud_watch, vpc = chosen.cloud()
    dns = chosen.dns(cloud, vpc)
    run_dir, data_dirs = str(Path(settings.root, RUN_DIR)), config.disks.data_dirs
    disks = disks or BlockDevices(settings.root, run_dir, data_dirs, prove_every_byte=settings.prove_every_byte)
    disks.data_dirs = data_dirs  # the templates may be others than in the configuration before
    files = NodeFiles(settings.root)
    bus = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or f"unix:path={Path(settings.root, BUS)}"
    pki = _Pki(settings.root, chosen.store, partial(_ask_timedated, bus))
    peers = _Peers(pki)
    etcd = _OwnEtcd(settings.root, peers)
    backups = _Backups(settings.root, chosen.store, config.backup.tools, wake)
    objects = _Objects(settings.root, config.kubelet.api_port, wake)
    services = None if config.kubelet.unit is None else _Bus(loop, bus, wake)
    manifests = Path(settings.root, config.etcd.manifest_dir.lstrip("/"))
    accepted = Path(settings.root, ACCEPTED_DIR.lstrip("/"))
    watch = [Path("/dev"), Path("/dev/disk/by-id"), manifests, accepted, *cloud_watch]
    if config.master:
        # A backup that an earlier daemon has begun ends there.
        watch.append(Path(settings.root, BACKUP_STATE_DIR.lstrip("/")))
    if services is not None:
        watch.append(Path(settings.root, BUS).parent)  # a bus that comes late is no reason to wait for the clock

    def close() -> None:
        if services is not None:
            services.close()
        cloud.close()

    return Wired(
        config,
        Readers(
            cloud,
            disks,
            files,
            peers,
            _Kubelet(settings.root),
            dns,
            services,
            pki,
            backups,
            etcd,
            objects,
            _Health(),
        ),
        {
            "cloud": cloud,
            "disks": disks,
            "files": files,
            "dns": dns,
            "services": services,
            "pki": pki,
            "backups": backups,
            "etcd": etcd,
            "objects": objects,
        },
        dns,
        tuple(watch),
        disks.running,
        close,
        disks,
        dns.watch if dns is not None else (),
    )


def _cloud(settings: Settings, name: str) -> Callable[[], Cloud]:
    if name == "aws":

        def aws() -> Cloud:
            from protokube.cloudprovider.aws import AwsCloud

            cloud = AwsCloud(cluster_id=settings.node.volumes.cluster_id, allow_imds_v1=settings.imds_v1)
            return cloud, (), cloud.vpc

        return aws
    from protokube.cloudprovider.local import local_cloud
    from protokube.cloudprovider.static.provider import load_inventory, own_node
    from protokube.host.network import default_addresses

    inventory = load_inventory(settings.inventory)
    node = own_node(inventory, settings.node_name or os.uname().nodename)
    images = tuple(sorted({Path(volume.image).parent for volume in inventory.volumes if volume.image}))
    manifests = settings.node.etcd.manifest_dir

    def local() -> Cloud:
        cloud = local_cloud(inventory, node, default_addresses, root=settings.root, manifests=manifests)
        return cloud, images, lambda: None

    return local


def _dns(settings: Settings, names: str) -> MakeDns:
    if names == "rfc2136" and not settings.dns_server:
        raise ConfigError([Fault("--dns rfc2136", "needs --dns-server HOST[:PORT]")])
    if names == "none" or not settings.node.master:
        return lambda _cloud, _vpc: None
    if names == "hosts":
        from protokube.dnsprovider.hosts import HostsFile

        return lambda _cloud, _vpc: HostsFile(str(Path(settings.root, HOSTS)), str(Path(settings.root, STATE_DIR)))
    if names == "rfc2136":
        from protokube.dnsprovider.rfc2136 import Rfc2136, load_server

        assert settings.dns_server is not None
        server = load_server(settings.dns_server, Path(settings.dns_keyfile) if settings.dns_keyfile else None)
        return lambda _cloud, _vpc: Rfc2136(server, zone=settings.dns_zone)

    def route53(cloud: CloudProvider, vpc: Vpc) -> DNSProvider:
        from protokube.dnsprovider.route53 import Route53

        def suffix() -> str:
            return settings.node.dns.full_suffix(settings.node.volumes.cluster_id or cloud.cluster_id())

        return Route53(internal_suffix=suffix, zone=settings.dns_zone, vpc=vpc, imds_v1=settings.imds_v1)

    return route53
