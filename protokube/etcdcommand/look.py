"""What a command looks at: this node's own members of etcd clusters, and the others as their peer ports answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from protokube.config.choice import Chosen
from protokube.config.wiring import Wired, wire
from protokube.core.action import Facet
from protokube.core.assess import Assessment
from protokube.core.etcd.bootstrap import peer_addresses
from protokube.core.etcd.health import ClusterView, is_gone
from protokube.core.etcd.model import MountedMember
from protokube.core.etcd.running import Alarm, PeerAbout
from protokube.core.etcd.tls import CLIENT, uses_tls
from protokube.core.history import History
from protokube.core.pki.model import PKI_DIR
from protokube.core.static_pod import manifest_env
from protokube.core.steps import Findings
from protokube.etcdclient.client import EtcdClient
from protokube.etcdclient.seen import Seeing
from protokube.etcdclient.transport import Server, Tls
from protokube.eventloop import EventLoop
from protokube.observe.observer import Observer

CLOUD_EVERY = 5.0
"""Seconds after which the cloud is asked again where a silent member may be now."""

LOOPBACK = "127.0.0.1"


class ImpossibleError(Exception):
    """The command can't be carried out; the message tells why, and what helps."""


class Cluster(Struct, frozen=True):
    """One etcd cluster that this node has a member of. `cluster_id` is Kubernetes's, `suffix` that of its names.
    `scheme` is what its peers speak, `https` or `http`."""

    key: str
    own: MountedMember
    client: EtcdClient
    cluster_id: str
    suffix: str
    scheme: str = "http"

    @property
    def name(self) -> str:
        """Our member's etcd name."""
        return self.own.template.member_name(self.own.volume.member.me)

    @property
    def names(self) -> tuple[str, ...]:
        """The etcd names of all members that there are to be."""
        return tuple(map(self.own.template.member_name, self.own.volume.member.members))

    def peer_url(self, me: str) -> str:
        """The peer URL of a member, as ours spells its own."""
        template = self.own.template
        return f"{self.scheme}://{template.member_name(me)}{self.suffix}:{template.peer_port}"


class Node:
    """This node, as a command sees it."""

    def __init__(self, chosen: Chosen, wired: Wired, observer: Observer) -> None:
        self._chosen, self._wired, self._observer = chosen, wired, observer
        self._seen = observer.first(History())
        self._seeing: dict[str, Seeing] = {}
        self.left_out = False
        """Whether an etcd cluster was asked for, and its member can't be seen."""

    def clusters(self, wanted: str | None, *, blank: bool = False) -> list[Cluster]:
        """The etcd clusters that this node's mounted volumes have members of; the wanted one alone, if there is one.
        `blank`: those as well whose member has no manifest, since it never ran or may not run.

        A cluster whose member can't be seen now is named on stderr. Raises ImpossibleError when there is none.
        """
        judged = self._seen.judged
        if judged.volumes is None and self._chosen.config.master:
            whys = [f"{subject}: {why}" for subject, why in _whys(judged.findings)]
            raise ImpossibleError(f"this node's volumes aren't known ({'; '.join(whys) or 'the cloud is silent'})")
        members = judged.etcd.members if judged.etcd is not None else ()
        found = [
            self._cluster(one)
            for one in members
            if (one.manifest or blank) and wanted in (None, one.volume.member.cluster)
        ]
        unseen = [f"etcd cluster {key}: {why}" for key, why in unseen_members(judged) if wanted in (None, key)]
        self.left_out = self.left_out or bool(unseen)
        for one in unseen:
            print(f"left out: {one}", file=sys.stderr)
        if not found and unseen:
            raise ImpossibleError(f"no member of this node can be seen now ({unseen[0]}); run the command again")
        if not found:
            what = f"etcd cluster {wanted}" if wanted else "any etcd cluster"
            raise ImpossibleError(f"this node runs no member of {what}; run the command on a node that does")
        return found

    def _cluster(self, own: MountedMember) -> Cluster:
        judged = self._seen.judged
        assert judged.volumes is not None
        cluster_id = judged.volumes.cluster_id
        suffix = self._chosen.config.etcd.suffix(cluster_id)
        scheme = manifest_env(own.manifest).get("ETCD_LISTEN_CLIENT_URLS", "").partition(":")[0]
        certificate = Path(self._chosen.settings.root, PKI_DIR.lstrip("/"), CLIENT)
        tls = Tls(certificate, LOOPBACK) if scheme == "https" else None
        client = EtcdClient(Server(f"{scheme or 'http'}://{LOOPBACK}:{own.template.client_port}", tls))
        key = own.volume.member.cluster
        listens = manifest_env(own.manifest).get("ETCD_LISTEN_PEER_URLS", "")
        secure = uses_tls(self._chosen.config.etcd, own, self._seen.observed.answers.get(key))
        peers = listens.partition(":")[0] or ("https" if secure else "http")
        return Cluster(key, own, client, cluster_id, suffix, peers)

    def view(self, cluster: Cluster) -> ClusterView:
        """What our member of an etcd cluster says, and which of the others answer."""
        about = partial(self._about, cluster.key)
        seeing = self._seeing.setdefault(cluster.key, Seeing(cluster.name, cluster.client, about))
        view = seeing.view(self._peers(cluster))
        silent = any(not isinstance(told, PeerAbout) for told in view.peers.values())
        if silent and self._observer.uptime() - self._seen.observed.at.uptime > CLOUD_EVERY:
            # Its volume may have another holder now.
            self._seen = self._observer.again(self._seen, frozenset({Facet.CLOUD}))
            view = seeing.view(self._peers(cluster))
        return view

    def _about(self, cluster: str, url: str) -> PeerAbout:
        return self._wired.readers.etcd.about(url, cluster)

    def _peers(self, cluster: Cluster) -> Mapping[str, Sequence[str]]:
        """The hosts and ports of the other members, by name: on the nodes that have their volumes."""
        judged, own = self._seen.judged, cluster.own
        assert judged.volumes is not None
        found = peer_addresses(self._seen.observed.cloud, judged.volumes, own.volume.member)
        return {
            own.template.member_name(me): [f"{one}:{own.template.peer_port}" for one in addresses]
            for me, addresses in found.items()
        }


def unseen_members(judged: Assessment) -> Iterator[tuple[str, str]]:
    """The etcd clusters of which this node has a volume and whose member can't be seen now, and why."""
    if judged.volumes is None:
        return
    seen = {one.volume.member.cluster for one in judged.etcd.members} if judged.etcd is not None else set()
    for cluster, volume in sorted(judged.volumes.ours.items()):
        if cluster not in seen:
            whys = (why for one in (judged.volumes, judged.disks, judged.etcd) if one for why in _whys(one.findings))
            why = next((why for subject, why in whys if subject == volume.id), "it isn't mounted, or can't be read")
            yield cluster, f"its volume {volume.id}: {why}"


def _whys(findings: Findings) -> Iterator[tuple[str, str]]:
    """What is told of subjects, the gravest first."""
    yield from ((one.subject, f"{one.rule}: {one.evidence}") for one in findings.refusals)
    yield from ((one.subject, one.reason) for one in findings.unknown)
    yield from ((one.subject, one.reason) for one in findings.waiting)


@contextmanager
def looking(chosen: Chosen, started: float) -> Iterator[Node]:
    """This node. Nothing on it is changed by looking."""
    # Neither kubelet nor its unit has a part in it.
    config = replace(chosen.config, kubelet=replace(chosen.config.kubelet, unit=None))
    wired = wire(replace(chosen, config=config), EventLoop(), lambda _reason: None)
    try:
        observer = Observer(wired.config.for_dry_run(), wired.readers, started=started)
        yield Node(chosen, wired, observer)
    finally:
        wired.close()


def take_back_alarms(client: EtcdClient) -> list[Alarm]:
    """Take back the alarms of members that are no longer listed, and return them: nobody else can."""
    alarms = client.alarms()
    members = client.members()  # read later: a member that was added meanwhile is in it
    gone = [one for one in alarms if is_gone(one, members)]
    for one in gone:
        client.disarm(one)
    return gone


def pause(seconds: float) -> None:
    """Let some time pass between two looks."""
    time.sleep(seconds)
