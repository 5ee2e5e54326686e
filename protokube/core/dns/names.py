"""Which names this node keeps in DNS, and with which addresses.

- `etcd-<me>`, `etcd-events-<me>`, `etcd-<key>-<me>` + internal suffix: the internal address of the node that has the
  member's volume; exclusive;
- `api` + internal suffix: the internal address of every control-plane node with a `main` volume; shared;
- `api.<cluster>`: their external addresses; shared.

Each name gets one address per family (A, and AAAA where the node has IPv6): the first that the cloud lists, which is
the primary one. Only this node reads a private provider (the hosts file), so that has the names of all nodes.
Workers, and control-plane nodes whose `main` volume isn't mounted, write nothing; but a standby keeps the API's names
in its own hosts file, since it reaches the others' API servers by them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from protokube.core.dns.model import MemberNode, RecordType, WantedRecord, WantedRecords
from protokube.core.model import Unknown
from protokube.core.volumes.model import EtcdMember, Instance, Peer, PeerState

MAIN = "main"
FAMILIES: tuple[tuple[RecordType, int], ...] = (("A", 4), ("AAAA", 6))


class Naming(Struct, frozen=True):
    """How the cluster's names are spelled. `internal_suffix` starts with a dot."""

    cluster_id: str
    internal_suffix: str

    def member(self, cluster: str, me: str) -> str:
        """The name of a member of an etcd cluster; `cluster` is the tag's key."""
        prefix = "etcd-" if cluster == MAIN else f"etcd-{cluster}-"
        return f"{prefix}{me}{self.internal_suffix}".lower()

    def members(self, member: EtcdMember) -> tuple[str, ...]:
        """The names of all members of a member's etcd cluster, in the tag's order."""
        return tuple(self.member(member.cluster, one) for one in member.members)

    @property
    def api_internal(self) -> str:
        """The API's name for nodes."""
        return f"api{self.internal_suffix}".lower()

    @property
    def api(self) -> str:
        """The API's name for kubectl."""
        return f"api.{self.cluster_id}".lower()


def member_nodes(peers: Iterable[Peer], attached: Mapping[str, Iterable[EtcdMember]]) -> tuple[MemberNode, ...]:
    """Join the peers with the members on the volumes attached to them (`attached`, by instance)."""
    return tuple(
        MemberNode(
            peer.instance,
            peer.internal,
            peer.external,
            frozenset(peer.members.items()) | {(one.cluster, one.me) for one in attached.get(peer.instance, ())},
            peer.state,
        )
        for peer in sorted(peers, key=lambda peer: peer.instance)
    )


def wanted_records(
    naming: Naming,
    instance: Instance,
    peers: Sequence[MemberNode] | Unknown,
    *,
    ours: Iterable[EtcdMember],
    mounted: Iterable[EtcdMember],
    private: bool,
    incomplete: bool = False,
) -> WantedRecords:
    """Decide which records this node keeps: `ours` are the members on its volumes, `mounted` those mounted.

    `incomplete`: this node may have, or soon get, more volumes than the answers show, so no name is withdrawn.
    """
    here = frozenset((member.cluster, member.me) for member in mounted)
    seen = () if isinstance(peers, Unknown) else peers
    others = tuple(one for one in seen if one.instance != instance.id and one.state is not PeerState.TERMINATED)
    api_names = frozenset({naming.api_internal, naming.api})
    if not _has_main(here):
        # A volume that is attached and not mounted yet will serve the API again: a withdrawal would only flap.
        returning = incomplete or _has_main((member.cluster, member.me) for member in ours)
        if returning:
            return WantedRecords(instance.id, private)
        control_plane = peers if isinstance(peers, Unknown) else _control_plane(naming, others)
        if private:
            standby = MemberNode(instance.id, instance.internal, instance.external, here)
            records = tuple(one for one in _view(naming, standby, others) if one.shared)
            return WantedRecords(instance.id, True, records, control_plane=control_plane)
        return WantedRecords(instance.id, withdrawn=api_names, control_plane=control_plane)
    own = MemberNode(instance.id, instance.internal, instance.external, here)
    control_plane = peers if isinstance(peers, Unknown) else _control_plane(naming, (own, *others))
    if private:
        return WantedRecords(instance.id, True, _view(naming, own, others), control_plane=control_plane)
    records = _member_records(naming, own) + _api_records(naming, own)
    return WantedRecords(instance.id, False, records, api_names - {one.name for one in records}, control_plane)


def _has_main(members: Iterable[tuple[str, str]]) -> bool:
    return any(cluster == MAIN for cluster, _ in members)


def _control_plane(naming: Naming, nodes: Iterable[MemberNode]) -> tuple[WantedRecord, ...]:
    living = (one for one in nodes if one.state is PeerState.RUNNING and _has_main(one.members))
    return tuple(record for one in living for record in _api_records(naming, one))


def _member_records(naming: Naming, node: MemberNode) -> tuple[WantedRecord, ...]:
    return tuple(
        record
        for cluster, me in sorted(node.members)
        for record in _records(naming.member(cluster, me), node.internal, False, node.instance)
    )


def _api_records(naming: Naming, node: MemberNode) -> tuple[WantedRecord, ...]:
    internal = _records(naming.api_internal, node.internal, True, node.instance)
    return internal + _records(naming.api, node.external, True, node.instance)


def _records(name: str, addresses: Iterable[str], shared: bool, owner: str) -> tuple[WantedRecord, ...]:
    parsed = [ipaddress.ip_address(address) for address in addresses]
    return tuple(
        WantedRecord(name, type_, (str(first),), shared, owner)
        for type_, version in FAMILIES
        for first in [one for one in parsed if one.version == version][:1]
    )


def _view(naming: Naming, own: MemberNode, others: Sequence[MemberNode]) -> tuple[WantedRecord, ...]:
    """All nodes' names as this node writes them into its own file: one record per name and type.

    Where two nodes report one member, this node goes first, then running nodes, then stopped ones.
    """
    present = sorted(others, key=lambda other: other.state is not PeerState.RUNNING)
    exclusive: dict[str, tuple[WantedRecord, ...]] = {}
    shared: dict[tuple[str, RecordType], list[str]] = {}
    for node in (own, *present):
        for cluster, me in sorted(node.members):
            single = MemberNode(node.instance, node.internal, (), frozenset({(cluster, me)}))
            exclusive.setdefault(naming.member(cluster, me), _member_records(naming, single))
        for record in _api_records(naming, node) if _has_main(node.members) else ():
            shared.setdefault((record.name, record.type), []).extend(record.values)
    records = [record for group in exclusive.values() for record in group]
    records += [
        WantedRecord(name, type_, tuple(sorted(set(values))), True, own.instance)
        for (name, type_), values in shared.items()
    ]
    return tuple(
        WantedRecord(one.name, one.type, one.values, one.shared, own.instance)
        for one in sorted(records, key=lambda record: (record.name, record.type))
    )
