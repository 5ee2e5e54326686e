"""`protokube etcd defrag`: this node's own database, while the others serve.

A member serves nothing while it is defragmented (etcd's maintenance guide), so a leader hands its office over first,
and nothing is done while another member is silent. Where the cluster is out of space, old revisions are dropped
before: kube-apiserver's own compaction is a write, which is refused then.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from protokube.core.etcd.health import NEARLY_FULL, ClusterView, name_of, size
from protokube.core.etcd.running import NOSPACE, Alarm, MemberStatus
from protokube.core.model import Unknown
from protokube.errors import EtcdRefusedError
from protokube.etcdclient.client import EtcdClient
from protokube.etcdcommand.look import Cluster, ImpossibleError, Node, pause, take_back_alarms

COMPACTED = "required revision has been compacted"
"""etcd's words for a revision that is gone already (mvcc, ErrCompacted)."""

ELECTION = 30
"""Seconds to wait for another leader."""


class _Steps(Struct, frozen=True):
    """What is to be done: who leads next (0: nobody has to), whether old revisions are dropped, and the alarms to
    take back: our own, and those of members that were removed."""

    successor: int
    full: bool
    own: tuple[Alarm, ...]
    gone: tuple[Alarm, ...]


def defragment(node: Node, cluster: Cluster, confirm: Callable[[], None] | None) -> None:
    """Defragment our member of an etcd cluster. `confirm` asks; None only shows the plan.

    Raises ImpossibleError when the others couldn't do without it.
    """
    view = node.view(cluster)
    status, planned = _may_stop(view), _planned(view)
    print(f"Defragment the database of {view.name}, etcd cluster {cluster.key}:")
    print(f"  it has {size(status.size)} of {size(view.quota)}, {size(status.in_use)} of them in use")
    steps = []
    steps += [
        f"take the {one.kind} alarm of {one.member_id:x} back, which is no member any more" for one in planned.gone
    ]
    if planned.full:
        steps.append(f"drop what was overwritten before revision {status.revision}: the cluster is out of space")
    if planned.successor:
        steps.append(f"hand the leadership to {view.label(planned.successor)}")
    steps.append("defragment it; it serves nothing meanwhile")
    if planned.own:
        steps.append("take its NOSPACE alarm back, if there is room then")
    for number, text in enumerate(steps, 1):
        print(f"  {number}. {text}", flush=True)
    if confirm is None:
        return
    confirm()
    client = cluster.client
    if _planned(node.view(cluster)) != planned:
        raise ImpossibleError(f"{view.name} isn't as it was when the plan was shown; run the command again")
    if planned.gone:
        take_back_alarms(client)
    if planned.full:
        _compact(client)
    if planned.successor:
        client.transfer_leadership(planned.successor)
        _await_leader(cluster)
    # Looked at again right before: all this took time, and another member may be down now.
    if _planned(node.view(cluster)).successor:
        raise ImpossibleError(f"{view.name} leads again; nothing was defragmented; run the command again")
    client.defragment()
    after = client.status()
    print(f"{view.name} has {size(after.size)} now.")
    for alarm in planned.own:
        if after.size >= view.quota * NEARLY_FULL:
            raise ImpossibleError(f"{view.name} is still nearly full: its NOSPACE alarm stands; delete keys first")
        client.disarm(alarm)
        print(f"The NOSPACE alarm of {view.name} is taken back.")
    if left := _alarms(node.view(cluster)):
        print(f"NOSPACE alarms stand for {', '.join(view.label(one.member_id) for one in left)}: go on there.")


def _compact(client: EtcdClient) -> None:
    try:
        client.compact(client.keys().revision)
    except EtcdRefusedError as error:
        if COMPACTED not in error.reason:  # the node before has done it, and nothing was written since
            raise


def _alarms(view: ClusterView) -> list[Alarm]:
    if isinstance(view.alarms, Unknown):
        raise ImpossibleError(f"the alarms can't be read: {view.alarms.reason}")
    return [one for one in view.alarms if one.kind == NOSPACE and not view.gone(one)]


def _planned(view: ClusterView) -> _Steps:
    """What is to be done now. Raises ImpossibleError when our member may not stand still."""
    status, alarms = _may_stop(view), _alarms(view)
    others = () if isinstance(view.members, Unknown) else view.members
    voters = [one for one in others if one.id != status.member_id]
    successor = min(voters, key=name_of).id if status.leads and voters else 0
    own = tuple(one for one in alarms if one.member_id == status.member_id)
    gone = () if isinstance(view.alarms, Unknown) else tuple(filter(view.gone, view.alarms))
    return _Steps(successor, bool(alarms), own, gone)


def _may_stop(view: ClusterView) -> MemberStatus:
    """Our member's status. Raises ImpossibleError when the others couldn't do without it."""
    if isinstance(view.status, Unknown):
        raise ImpossibleError(f"{view.name} doesn't answer: {view.status.reason}")
    if isinstance(view.members, Unknown):
        raise ImpossibleError(f"{view.name} reads nothing with quorum: {view.members.reason}")
    others = [one for one in view.members if one.id != view.status.member_id]
    if silent := [name_of(one) for one in others if one.learner or not view.answers(name_of(one))]:
        raise ImpossibleError(f"{', '.join(silent)} must serve first: {view.name} stands still for a while")
    return view.status


def _await_leader(cluster: Cluster) -> None:
    for _ in range(ELECTION):
        status = cluster.client.status()
        if status.leader and not status.leads:
            return
        pause(1.0)
    raise ImpossibleError(f"{cluster.name} still leads after {ELECTION} s; nothing was defragmented")
