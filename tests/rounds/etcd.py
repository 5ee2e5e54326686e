"""etcd as far as its bootstrap can go wrong: cluster identities, member lists, quorums, acknowledged writes.

A `new` start makes a cluster whose identity follows from the initial members, as etcd's does, so that members with
empty logs may form a quorum. Whatever that loses is noted in `violations`: two clusters formed for one etcd cluster's
key, or an acknowledged write that the elected leader doesn't have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import permutations
from typing import TYPE_CHECKING
from zlib import crc32

from msgspec import Struct, field
from msgspec.structs import replace

from protokube.core.controlplane.turns import LIFE as API_LIFE
from protokube.core.etcd.actions import GiveAnyTurnBack, TakeAnyTurn
from protokube.core.etcd.model import EtcdPeerMember, LocalMember, ServedEtcd
from protokube.core.etcd.running import ClusterMember
from protokube.core.etcd.turns import API_TURN_KEY, LIFE, TURN_KEY
from protokube.core.pki.model import Certificate
from protokube.core.static_pod import image_version, manifest_env, manifest_image, spell_version

if TYPE_CHECKING:
    from tests.rounds.world import Node, World, WorldVolume


Members = dict[str, EtcdPeerMember]


@cache
def _env(text: str) -> Mapping[str, str]:
    return manifest_env(text)


class EtcdData(Struct):
    """A data directory: the cluster it belongs to, the members as it knows them (by peer URL), and the log."""

    cluster: str
    url: str
    members: Members
    log: list[str] = field(default_factory=list)


class Running(Struct):
    """An etcd process, on what its manifest said."""

    node: Node
    volume: WorldVolume
    key: str
    name: str
    text: str
    port: str
    data: EtcdData
    trusts: tuple[str, ...] = ()
    """The peers' authorities that it read at its start."""
    started: float = 0.0

    @property
    def env(self) -> Mapping[str, str]:
        """Its environment."""
        return _env(self.text)

    @property
    def version(self) -> str:
        """The version of its image."""
        return spell_version(image_version(manifest_image(self.text) or "")) or ""

    @property
    def secure(self) -> bool:
        """Whether its peer port speaks TLS."""
        return self.env["ETCD_LISTEN_PEER_URLS"].startswith("https:")

    @property
    def issuer(self) -> str | None:
        """The authority of its peer certificate, which it reads at each handshake."""
        return _issuer(self.node, self.env["ETCD_PEER_CERT_FILE"]) if self.secure else None

    def dials(self, other: Running) -> bool:
        """Whether it reaches another member at the URL in the member list."""
        listed = self.data.members.get(other.data.url)
        if listed is None or listed.peer_urls[0].startswith("https:") != other.secure:
            return False
        if not other.secure:
            return True
        return self.secure and other.issuer in self.trusts and self.issuer in other.trusts


def certificate_of(node: Node, file: str) -> Certificate | None:
    """The certificate that a file belongs to; None when the node has none."""
    *_, directory, link, _ = file.split("/")
    found = node.certificates.get(directory.removesuffix(".d") if link == "current" else link)
    return found if isinstance(found, Certificate) else None


def _issuer(node: Node, file: str) -> str | None:
    found = certificate_of(node, file)
    return found.issuer if found else None


def _certified(node: Node, env: Mapping[str, str]) -> bool:
    files = [value for name, value in env.items() if name.endswith("CERT_FILE")]
    return all(_issuer(node, file) for file in files)


def _moved(new: str, old: str) -> bool:
    """Whether a manifest has changed in what its process is started with."""
    after, before = _env(new), _env(old)
    start = ("ETCD_INITIAL_CLUSTER_STATE", "ETCD_INITIAL_CLUSTER")  # a manifest that kubelet can't run now
    names = (after.keys() | before.keys()) - set(start)
    return manifest_image(new) != manifest_image(old) or any(after.get(name) != before.get(name) for name in names)


class EtcdWorld:
    """Everything that kubelets run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.running: dict[tuple[str, str], Running] = {}
        self.formed: dict[str, set[str]] = {}
        self.acknowledged: dict[str, list[str]] = {}
        self.violations: list[str] = []
        self.stopped: list[str] = []
        self.told: dict[str, dict[str, str]] = {}
        self.turns: dict[str, tuple[str, float]] = {}
        self.broken_image = ""
        """An image that can't be pulled."""

    def stop(self, node: Node) -> None:
        """All of a node's members end."""
        self.running = {key: one for key, one in self.running.items() if one.node is not node}

    def tick(self) -> None:
        """Kubelets notice their folders; members start, elect and publish themselves."""
        wanted = {
            (node.name, path): (node, text, volume)
            for node in self._world.nodes.values()
            if node.kubelet_runs
            for path, text, volume in self._world.pods(node)
        }
        for key, one in list(self.running.items()):
            if key not in wanted or wanted[key][1] != one.text or wanted[key][2] is not one.volume:
                if key not in wanted and one.node.kubelet_runs and self._quorum(one.key, one.data.cluster):
                    self.stopped.append(f"{one.name} on {one.node.name}")
                del self.running[key]
                if key in wanted and _moved(wanted[key][1], one.text):
                    self._restarts(one)
        for key, (node, text, volume) in wanted.items():
            if key not in self.running and (started := self._start(node, text, volume)):
                self.running[key] = started
        for etcd_key, cluster in sorted({(one.key, one.data.cluster) for one in self.running.values()}):
            self._elect(etcd_key, cluster)

    def _start(self, node: Node, text: str, volume: WorldVolume) -> Running | None:
        if manifest_image(text) == self.broken_image:
            return None
        env = _env(text)
        if not _certified(node, env):
            return None  # etcd exits: its certificate's files are missing
        relative = env["ETCD_DATA_DIR"].lstrip("/")
        filesystem = volume.filesystem
        assert filesystem is not None
        if relative + "/" not in filesystem.files:
            return None  # hostPath's type Directory: the pod doesn't start
        url = env["ETCD_INITIAL_ADVERTISE_PEER_URLS"]
        initial = dict(pair.split("=", 1) for pair in env["ETCD_INITIAL_CLUSTER"].split(","))
        data = filesystem.etcd.get(relative)
        if data is None:
            data = self._first_start(node, env, url, initial)
            if data is None:
                return None
            filesystem.etcd[relative] = data
            filesystem.put(f"{relative}/member/", None, self._world.clock())
        key = env["ETCD_INITIAL_CLUSTER_TOKEN"]
        peer = certificate_of(node, env["ETCD_PEER_CERT_FILE"]) if "ETCD_PEER_CERT_FILE" in env else None
        trusts = peer.trusted if peer else ()
        return Running(
            node, volume, key, env["ETCD_NAME"], text, url.rpartition(":")[2], data, trusts, self._world.clock()
        )

    def _restarts(self, one: Running) -> None:
        """A member that is restarted on purpose leaves a quorum, and the restart before is over."""
        if len(one.data.members) > 1 and not self._quorum(one.key, one.data.cluster):
            self._violation(f"{one.name} restarts, and the others of {one.key} are no quorum")

    def _first_start(
        self, node: Node, env: Mapping[str, str], url: str, initial: Mapping[str, str]
    ) -> EtcdData | None:
        if initial.get(env["ETCD_NAME"]) != url:
            return None
        if env["ETCD_INITIAL_CLUSTER_STATE"] == "new":
            identity = f"{env['ETCD_INITIAL_CLUSTER_TOKEN']} {' '.join(sorted(initial.values()))}"
            return EtcdData(identity, url, {one: EtcdPeerMember(name, (one,), ()) for name, one in initial.items()})
        for peer in self.running.values():
            if peer.node is not node and not self._trusted(node, peer):
                continue
            if peer.key == env["ETCD_INITIAL_CLUSTER_TOKEN"] and peer.data.members.keys() == set(initial.values()):
                return EtcdData(peer.data.cluster, url, dict(peer.data.members))
        return None  # `existing` and no peer that agrees: etcd exits

    def _quorum(self, key: str, cluster: str) -> list[Running]:
        """The running members of a cluster if they are enough, the one with the longest log first."""
        alive = [one for one in self.running.values() if (one.key, one.data.cluster) == (key, cluster)]
        alive.sort(key=lambda one: (-len(one.data.log), -len(one.data.members), one.name))
        for leader in alive:
            followers = [one for one in alive if one is leader or leader.dials(one) or one.dials(leader)]
            longest = max(len(one.data.log) for one in followers) == len(leader.data.log)
            if longest and len(followers) > len(leader.data.members) // 2:
                return [leader, *(one for one in followers if one is not leader)]
        return []

    def _elect(self, key: str, cluster: str) -> None:
        alive = self._quorum(key, cluster)
        if not alive:
            return
        same = [one for one in self.running.values() if (one.key, one.data.cluster) == (key, cluster)]
        secure = [one for one in same if one.secure]
        for one, other in permutations(secure, 2):
            if one.issuer not in other.trusts:
                self._violation(f"{other.name} of {key} locks {one.name} out, whose authority it doesn't trust")
        leader = alive[0].data
        self.formed.setdefault(key, set()).add(cluster)
        if len(self.formed[key]) > 1:
            self._violation(f"two clusters were formed for {key}: {sorted(self.formed[key])}")
        if lost := [write for write in self.acknowledged.get(key, []) if write not in leader.log]:
            self._violation(f"{key} lost acknowledged writes {lost}")
        for one in alive:
            if one.data.url in leader.members:
                client = (f"{'https' if one.secure else 'http'}://{one.name}:4001",)
                leader.members[one.data.url] = EtcdPeerMember(one.name, (one.data.url,), client)
        for one in alive:
            one.data.members, one.data.log = dict(leader.members), list(leader.log)
            one.data.url = next(url for url, member in leader.members.items() if member.name == one.name)

    def _violation(self, what: str) -> None:
        if what not in self.violations:
            self.violations.append(what)

    # --- clients ---

    def write(self, key: str, value: str, *, missing: str | None = None) -> bool:
        """Put a value; `missing` names a node that doesn't get it. The answer says whether it was acknowledged."""
        token = f"etcd-cluster-token-{key}"
        for cluster in {one.data.cluster for one in self.running.values() if one.key == token}:
            alive = [one for one in self._quorum(token, cluster) if one.node.name != missing]
            if alive and len(alive) > len(alive[0].data.members) // 2:
                for one in alive:
                    one.data.log.append(value)
                self.acknowledged.setdefault(token, []).append(value)
                return True
        return False

    def member_add(self, key: str, url: str) -> bool:
        """`etcdctl member add`; needs a quorum."""
        return self._change(key, lambda members: members | {url: EtcdPeerMember("", (url,), ())})

    def member_remove(self, key: str, url: str) -> bool:
        """`etcdctl member remove`; needs a quorum."""
        return self._change(key, lambda members: {one: info for one, info in members.items() if one != url})

    def member_update(self, key: str, old: str, new: str) -> bool:
        """`etcdctl member update`; needs a quorum."""
        for one in self.running.values():
            if one.data.url == old and one.key == f"etcd-cluster-token-{key}":
                one.data.url = new
        return self._change(
            key,
            lambda members: {
                new if url == old else url: replace(info, peer_urls=(new,)) if url == old else info
                for url, info in members.items()
            },
        )

    def _change(self, key: str, change: Callable[[Members], Members]) -> bool:
        token = f"etcd-cluster-token-{key}"
        for cluster in {one.data.cluster for one in self.running.values() if one.key == token}:
            alive = self._quorum(token, cluster)
            for one in alive:
                one.data.members = dict(change(one.data.members))
            if alive:
                return True
        return False

    def _trusted(self, node: Node, peer: Running) -> bool:
        """Whether a peer takes the certificate of a node's member, which must be of the same authority."""
        if not peer.secure:
            return True
        ours = certificate_of(node, peer.env["ETCD_PEER_CERT_FILE"])
        return ours is not None and peer.issuer in ours.trusted and ours.issuer in peer.trusts

    def served(self, node: Node, member: LocalMember) -> ServedEtcd | None:
        """What a node's own member serves; None without quorum."""
        for one in self.running.values():
            secure = member.url.startswith("https:")
            if one.node is node and one.name == member.name and one.secure == secure:
                if one not in self._quorum(one.key, one.data.cluster):
                    return None
                listed = [
                    ClusterMember(crc32(url.partition(":")[2].encode()), info.name, info.peer_urls, info.client_urls)
                    for url, info in one.data.members.items()
                ]
                told = dict(self.told.get(one.key, {}))
                turns = self.turn(one.key), self.turn(one.key, API_TURN_KEY, API_LIFE)
                return ServedEtcd(tuple(listed), told, one.started, one.version, turn=turns[0], api_turn=turns[1])
        return None

    def turn(self, key: str, what: str = TURN_KEY, life: int = LIFE) -> str:
        """Whose turn it is to restart, as long as etcd remembers it."""
        text, taken = self.turns.get(f"{key}/{what}", ("", 0.0))
        return text if self._world.clock() - taken < life else ""

    def set_turn(self, key: str, action: TakeAnyTurn | GiveAnyTurnBack, old: str, new: str) -> None:
        """Write whose turn it is, if it is still as expected."""
        life = API_LIFE if action.key == API_TURN_KEY else LIFE
        if self.turn(key, action.key, life) == old:
            self.turns[f"{key}/{action.key}"] = (new, self._world.clock())

    def members_at(self, url: str, asker: Node, cluster: str) -> tuple[EtcdPeerMember, ...] | None:
        """What the peer port at an address answers a node; None when nobody there speaks with it."""
        one = self._listening(url, asker)
        return None if one is None else tuple(replace(member) for member in one.data.members.values())

    def version_at(self, url: str, asker: Node, cluster: str) -> str | None:
        """The version that runs at an address; None when nobody there speaks with the node."""
        one = self._listening(url, asker)
        return None if one is None else one.version

    def _listening(self, url: str, asker: Node) -> Running | None:
        scheme, _, place = url.partition("://")
        host, _, port = place.rpartition(":")
        for one in self.running.values():
            if one.node.address == host and one.port == port and one.node.up:
                if one.secure != (scheme == "https") or not self._trusted(asker, one):
                    return None
                return one
        return None
