"""Adapters that are loaded when they are first asked: most nodes ask few of them, and none before its first link."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from protokube.core.etcd.tls import peer_certificate
from protokube.core.pki.model import PKI_DIR, Certificate

if TYPE_CHECKING:
    from protokube.backups.node import NodeBackups
    from protokube.core.backup.actions import RemoveBackups, TakeBackup
    from protokube.core.backup.model import BackedUp, BackupAnswers, BackupWork, KeptBackups
    from protokube.core.controlplane.model import Health
    from protokube.core.etcd.actions import GiveAnyTurnBack, TakeAnyTurn, TellAuthorities, UpdateMember
    from protokube.core.etcd.health import ClusterView
    from protokube.core.etcd.model import EtcdPeerMember, HealthQuestion, LocalMember, ServedEtcd
    from protokube.core.etcd.running import PeerAbout
    from protokube.core.kubelet.model import KubeletBinary, Machine
    from protokube.core.model import Unknown
    from protokube.core.node.model import UnitState
    from protokube.core.objects.actions import DecideRequest
    from protokube.core.objects.model import ChannelSource, Manifest, ObjectFacts, ObjectKey
    from protokube.core.objects.requests import RequestNames
    from protokube.core.pki.actions import IssueCertificate, MakeAuthorities
    from protokube.core.pki.model import Authorities, Damaged, NoAuthorities
    from protokube.etcdclient.own import OwnMembers
    from protokube.etcdclient.peers import HttpEtcdPeers
    from protokube.eventloop import EventLoop
    from protokube.host.kubelet import InstalledKubelet
    from protokube.host.systemd import SystemBus
    from protokube.kubeapi.node import NodeObjects
    from protokube.pki.node import NodePki
    from protokube.store.place import StorePlace

Wake = Callable[[str], None]


class Peers:
    """etcd's peers; the client is loaded when there is a peer to ask."""

    def __init__(self, pki: Pki) -> None:
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


class Kubelet:
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


class Pki:
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


def ask_timedated(bus: str) -> bool:
    """Whether the clock is synchronized, by systemd-timedated on the bus with this address."""
    from protokube.host.timedate import clock_in_sync

    return clock_in_sync(bus)


class Backups:
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

    def kept(self, cluster: str, etcd: str) -> KeptBackups:
        """See ports.BackupReader."""
        return self._node().kept(cluster, etcd)

    def start_backup(self, action: TakeBackup) -> None:
        """See core/backup/actions.py."""
        self._node().start_backup(action)

    def remove_backups(self, action: RemoveBackups) -> None:
        """See core/backup/actions.py."""
        self._node().remove_backups(action)


class OwnEtcd:
    """This machine's own etcd members; the client is loaded when one of them is to restart."""

    def __init__(self, root: str, peers: Peers) -> None:
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

    def take_turn(self, action: TakeAnyTurn) -> None:
        """See core/etcd/actions.py."""
        self._members().take_turn(action)

    def give_back(self, action: GiveAnyTurnBack) -> None:
        """See core/etcd/actions.py."""
        self._members().give_back(action)


class Objects:
    """This machine's API server; its client, and TLS with it, are loaded when there is something to ask."""

    def __init__(self, root: str, port: int, wake: Wake, channels: tuple[ChannelSource, ...]) -> None:
        self._root, self._port, self._wake, self._channels = root, port, wake, channels
        self._made: NodeObjects | None = None

    def _node(self) -> NodeObjects:
        from protokube.kubeapi.node import NodeObjects

        if self._made is None:
            self._made = NodeObjects(self._root, self._port, _read_request, self._wake, self._channels)
        return self._made

    def close(self) -> None:
        """End what its client follows, if it was ever asked."""
        if self._made is not None:
            self._made.close()

    def changed(self) -> bool:
        """See ports.ObjectReader."""
        return self._made is not None and self._made.changed()

    def look(self, keys: Sequence[ObjectKey]) -> ObjectFacts:
        """See ports.ObjectReader."""
        return self._node().look(keys)

    def apply(self, manifest: Manifest, owner: str) -> None:
        """See core/objects/actions.py."""
        self._node().apply(manifest, owner)

    def remove(self, key: ObjectKey, owner: str) -> None:
        """See core/objects/actions.py."""
        self._node().remove(key, owner)

    def take_lease(self, node: str) -> None:
        """See core/objects/actions.py."""
        self._node().take_lease(node)

    def decide(self, action: DecideRequest) -> None:
        """See core/objects/actions.py."""
        self._node().decide(action)


def _read_request(pem: bytes) -> RequestNames | str:
    from protokube.pki.x509 import read_request

    return read_request(pem)


class Endpoints:
    """The health of programs; each client is loaded when one is asked."""

    def __init__(self, root: str) -> None:
        self._root = root

    def ask(self, url: str) -> Health:
        """See ports.HealthReader."""
        if url.endswith("/version"):
            from protokube.kubeapi.node import ask_version

            return ask_version(self._root, url)
        from protokube.host.health import ask

        return ask(url)


class Bus:
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
