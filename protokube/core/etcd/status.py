"""What `protokube etcd status` says, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from protokube.core.etcd.health import ClusterView, Problem, name_of, size
from protokube.core.etcd.running import MemberStatus, PeerAbout
from protokube.core.model import Unknown


def status_text(cluster: str, view: ClusterView, wrong: list[Problem]) -> str:
    """The members of an etcd cluster, the database of ours, and what is wrong."""
    return "\n".join(_lines(cluster, view, wrong))


def _lines(cluster: str, view: ClusterView, wrong: list[Problem]) -> Iterator[str]:
    yield f"etcd cluster {cluster}, seen by {view.name}:"
    if isinstance(view.members, Unknown):
        yield f"  members: not known ({view.members.reason})"
    else:
        for one in sorted(view.members, key=name_of):
            name = name_of(one)
            role = "learner" if one.learner else "leader" if _leads(view, one.id) else "member"
            yield f"  {name} ({one.id:x}): {role}, {_told(view, name)}, {', '.join(one.peer_urls)}"
    if isinstance(view.status, MemberStatus):
        told = view.status
        yield (
            f"  database of {view.name}: {size(told.size)} of {size(view.quota)}, {size(told.in_use)} in use; "
            f"revision {told.revision}"
        )
    if wrong:
        yield "  Problems:"
        yield from (f"    {one.rule}: {one.evidence}" for one in wrong)


def _leads(view: ClusterView, member_id: int) -> bool:
    return isinstance(view.status, MemberStatus) and view.status.leader == member_id


def _told(view: ClusterView, name: str) -> str:
    if name == view.name:
        return f"etcd {view.status.version}" if isinstance(view.status, MemberStatus) else "doesn't answer"
    told = view.peers.get(name)
    if isinstance(told, PeerAbout):
        return f"etcd {told.version}"
    return "doesn't answer"


def status_json(cluster: str, view: ClusterView, wrong: list[Problem]) -> Mapping[str, object]:
    """The same for scripts: ids are texts, since JSON readers may round numbers of 64 bits."""
    members = () if isinstance(view.members, Unknown) else view.members
    own = view.status if isinstance(view.status, MemberStatus) else None
    return {
        "cluster": cluster,
        "member": view.name,
        "quorum": own is not None and bool(own.leader) and not isinstance(view.members, Unknown),
        "members": [
            {
                "name": name_of(one),
                "id": f"{one.id:x}",
                "peerURLs": one.peer_urls,
                "started": one.started,
                "learner": one.learner,
                "leader": _leads(view, one.id),
                "answers": view.answers(name_of(one)),
                "version": _version(view, name_of(one)),
                "clockAhead": _ahead(view, name_of(one)),
            }
            for one in sorted(members, key=name_of)
        ],
        "database": None
        if own is None
        else {"size": own.size, "inUse": own.in_use, "quota": view.quota, "revision": own.revision},
        "alarms": None
        if isinstance(view.alarms, Unknown)
        else [{"member": view.label(one.member_id), "alarm": one.kind} for one in view.alarms],
        "problems": [{"rule": one.rule, "evidence": one.evidence} for one in wrong],
    }


def _version(view: ClusterView, name: str) -> str | None:
    told = view.status if name == view.name else view.peers.get(name)
    return told.version if isinstance(told, MemberStatus | PeerAbout) else None


def _ahead(view: ClusterView, name: str) -> float | None:
    told = view.peers.get(name)
    return told.ahead if isinstance(told, PeerAbout) else None
