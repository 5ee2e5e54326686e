"""`protokube etcd defrag`: this node's own database, while the others serve.

A member serves nothing while it is defragmented (etcd's maintenance guide), so a leader hands its office over first,
and nothing is done while another member is silent. Where the cluster is out of space, old revisions are dropped
before: kube-apiserver's own compaction is a write, which is refused then.
"""

from __future__ import annotations

from collections.abc import Callable

from protokube.core.etcd.health import NEARLY_FULL, ClusterView, name_of, size
from protokube.core.etcd.running import NOSPACE, Alarm, MemberStatus
from protokube.core.model import Unknown
from protokube.errors import EtcdRefusedError
from protokube.etcdclient.client import EtcdClient
from protokube.etcdcommand.look import Cluster, ImpossibleError, Node, pause

COMPACTED = "required revision has been compacted"
"""etcd's words for a revision that is gone already (mvcc, ErrCompacted)."""

ELECTION = 30
"""Seconds to wait for another leader."""


def defragment(node: Node, cluster: Cluster, confirm: Callable[[], None] | None) -> None:
    """Defragment our member of an etcd cluster. `confirm` asks; None only shows the plan.

    Raises ImpossibleError when the others couldn't do without it.
    """
    view = node.view(cluster)
    status, successor = _may_stop(view)
    own = [one for one in _alarms(view) if one.member_id == status.member_id]
    full = bool(_alarms(view))
    print(f"Defragment the database of {view.name}, etcd cluster {cluster.key}:")
    print(f"  it has {size(status.size)} of {size(view.quota)}, {size(status.in_use)} of them in use")
    steps = []
    if full:
        steps.append(f"drop what was overwritten before revision {status.revision}: the cluster is out of space")
    if successor:
        steps.append(f"hand the leadership to {view.label(successor)}")
    steps.append("defragment it; it serves nothing meanwhile")
    if own:
        steps.append("take its NOSPACE alarm back, if there is room then")
    for number, text in enumerate(steps, 1):
        print(f"  {number}. {text}", flush=True)
    if confirm is None:
        return
    confirm()
    client = cluster.client
    if full:
        _compact(client)
    if successor:
        client.transfer_leadership(successor)
        _await_leader(cluster)
    client.defragment()
    after = client.status()
    print(f"{view.name} has {size(after.size)} now.")
    for alarm in own:
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
    return [one for one in view.alarms if one.kind == NOSPACE]


def _may_stop(view: ClusterView) -> tuple[MemberStatus, int]:
    """Our member's status, and who leads next where it is the leader (0: nobody has to)."""
    if isinstance(view.status, Unknown):
        raise ImpossibleError(f"{view.name} doesn't answer: {view.status.reason}")
    if isinstance(view.members, Unknown):
        raise ImpossibleError(f"{view.name} reads nothing with quorum: {view.members.reason}")
    others = [one for one in view.members if one.id != view.status.member_id]
    if silent := [name_of(one) for one in others if one.learner or not view.answers(name_of(one))]:
        raise ImpossibleError(f"{', '.join(silent)} must serve first: {view.name} stands still for a while")
    if not view.status.leads or not others:
        return view.status, 0
    return view.status, min(others, key=name_of).id


def _await_leader(cluster: Cluster) -> None:
    for _ in range(ELECTION):
        status = cluster.client.status()
        if status.leader and not status.leads:
            return
        pause(1.0)
    raise ImpossibleError(f"{cluster.name} still leads after {ELECTION} s; nothing was defragmented")
