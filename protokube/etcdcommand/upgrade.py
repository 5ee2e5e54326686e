"""`protokube etcd upgrade`: shows the way to a version, and takes a backup before it. The daemons go it."""

from __future__ import annotations

from collections.abc import Callable

from protokube.core.etcd.health import ClusterView, name_of
from protokube.core.etcd.running import MemberStatus, PeerAbout
from protokube.core.etcd.upgrade import RULE, barred_by, order
from protokube.core.etcd.versions import way
from protokube.core.model import Unknown
from protokube.etcdclient.peers import parse_release
from protokube.etcdcommand.look import Cluster, ImpossibleError, Node


def show_upgrade(
    node: Node, cluster: Cluster, to: str, backup: Callable[[], str], confirm: Callable[[], None] | None
) -> None:
    """Show how an etcd cluster gets to a version. `confirm` asks before a backup is taken; None only shows the way.

    Raises ImpossibleError when the cluster isn't ready for the step.
    """
    view = node.view(cluster)
    running = _running(view)
    if barred := barred_by(to, running):
        oldest = min(running.values(), key=lambda one: tuple(map(int, one.split("."))))
        raise ImpossibleError(f"{RULE}: {barred}; the way to {to}: {' → '.join((oldest, *way(oldest, to)))}")
    late = [name for name in order(running) if running[name] != to]
    if not late:
        print(f"etcd cluster {cluster.key}: every member runs etcd {to}.")
        return
    print(f"Upgrade etcd cluster {cluster.key} to etcd {to}, once every node has an --etcd-image of it:")
    print("  1. take a backup, and check it")
    for number, name in enumerate(late, 2):
        print(f"  {number}. {name} restarts: {running[name]} → {to}")
    print("Each daemon restarts its own member, in this order, when all others serve.", flush=True)
    if confirm is None:
        return
    confirm()
    print(f"backup: {backup()}")
    print(f"Now give every node an --etcd-image of {to}, and reload its daemon.")


def _running(view: ClusterView) -> dict[str, str]:
    """What every member runs. Raises ImpossibleError where one doesn't tell, or the cluster doesn't serve."""
    if isinstance(view.members, Unknown):
        raise ImpossibleError(f"{view.name} reads nothing with quorum: {view.members.reason}")
    running: dict[str, str] = {}
    for member in view.members:
        name = name_of(member)
        told = view.status if name == view.name else view.peers.get(name)
        if not isinstance(told, MemberStatus | PeerAbout) or member.learner:
            raise ImpossibleError(f"{name} must serve first: all members do, before one is upgraded")
        try:
            running[name] = parse_release(told.version)
        except ValueError as error:
            raise ImpossibleError(f"{name}: {error} (expected one as 3.6.6); no step from it is known") from error
    return running
