"""The other nodes with an API server: which of them count, and what they say of themselves.

A machine that is dead may count as running for days, by the cloud's or the inventory's word. So one that answers
neither at its API server nor at its member's peer port is gone, and holds nobody up: `main` has a quorum without it,
or nothing would be changed at all. A machine whose etcd answers counts, whatever its API server does.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from protokube.core.controlplane.model import ControlPlaneFacts, Health
from protokube.core.dns.names import MAIN, member_nodes
from protokube.core.etcd.model import EtcdAssessment, LocalMember, ServedEtcd
from protokube.core.model import Unknown
from protokube.core.volumes.model import Peer, PeerState, VolumesAssessment


class Other(Struct, frozen=True):
    """Another node with an API server: its instance, where it is reached (as in URLs), and its member of `main`."""

    instance: str
    host: str
    member: str

    def url(self, port: int, path: str) -> str:
        """A path of its API server."""
        return f"https://{self.host}:{port}{path}"


def own_member(etcd: EtcdAssessment) -> LocalMember | None:
    """This machine's member of `main`, as it is to be asked; None while it has never started."""
    return next((one.at for one in etcd.health if one.at.cluster == MAIN), None)


def other_api_servers(
    volumes: VolumesAssessment, etcd: EtcdAssessment, peers: Sequence[Peer] | Unknown
) -> tuple[Other, ...] | Unknown:
    """The other running nodes with a volume of `main`, in the order of their instances."""
    if isinstance(peers, Unknown):
        return peers
    template = next((one.template for one in etcd.members if one.volume.member.cluster == MAIN), None)
    found = []
    for one in member_nodes(peers, volumes.attached):
        me = next((me for cluster, me in sorted(one.members) if cluster == MAIN), None)
        ours = one.instance == volumes.instance.id or one.state is not PeerState.RUNNING
        if me is not None and one.internal and not ours:
            host = f"[{one.internal[0]}]" if ":" in one.internal[0] else one.internal[0]
            found.append(Other(one.instance, host, me if template is None else template.member_name(me)))
    return tuple(found)


def is_gone(other: Other, answer: Health | Unknown, facts: ControlPlaneFacts) -> bool:
    """Whether a node doesn't count: its API server gave no `answer`, and etcd sees nothing of its member either, or
    has it no more."""
    if not isinstance(answer, Unknown):
        return False
    served, view = facts.served.get(MAIN), facts.etcd.get(MAIN)
    if isinstance(served, ServedEtcd) and other.member not in {one.name for one in served.members}:
        return True
    return view is not None and not isinstance(view.members, Unknown) and not view.answers(other.member)
