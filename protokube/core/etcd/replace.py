"""Replaces a lost member of a running etcd cluster: remove, add as a learner, start, promote.

The member list alone says how far a replacement has come: whoever is killed in between goes on from there.

| in the list | next |
| --- | --- |
| started, and silent | remove it |
| not there | add it, as a learner |
| a learner that never started | its own node starts it, on a blank volume |
| a learner that has started | promote it, once it has caught up |
| started, and answers | nothing |

A learner has no vote: it can't cost the others their quorum, whatever becomes of it. `member update` is never used on
one (it would promote it, etcd-io/etcd 21694), and a learner that never started is never promoted, which etcd itself
allowed before 3.5.7.

The quorum is checked before each step. etcd checks it too (strict-reconfig-check), by the connections of the member
that is asked.
"""

from __future__ import annotations

from msgspec import Struct

from protokube.core.etcd.health import ClusterView, name_of
from protokube.core.etcd.running import CORRUPT, ClusterMember, MemberStatus
from protokube.core.model import Rejected, Unknown

NO_QUORUM = "etcd/no-quorum"

NOT_IN_SYNC = "can only promote a learner member which is in sync with leader"
"""etcd's words for a learner that has to catch up (etcd, ErrLearnerNotReady)."""


class Wanted(Struct, frozen=True):
    """The member to replace: its etcd name, the peer URL that it is to have, and the names of all that there are to
    be."""

    name: str
    url: str
    all: tuple[str, ...]


class Remove(Struct, frozen=True):
    """Remove the lost member from the list."""

    id: int


class Add(Struct, frozen=True):
    """Add the member as a learner."""


class Await(Struct, frozen=True):
    """Its own node has to do something first."""

    reason: str


class Promote(Struct, frozen=True):
    """Give the learner its vote."""

    id: int


class Replaced(Struct, frozen=True):
    """The member is in the list, votes and answers."""


Step = Remove | Add | Await | Promote | Replaced


def next_step(wanted: Wanted, view: ClusterView) -> Step | Rejected:
    """The next step of a replacement, or why it may not be taken now."""
    if isinstance(view.members, Unknown):
        evidence = (
            f"{view.name} reads nothing with quorum ({view.members.reason}); start the members that are down, or "
            "restore the etcd cluster from a backup"
        )
        return Rejected(NO_QUORUM, evidence)
    if wanted.name == view.name:
        return Rejected("etcd/replace", f"{wanted.name} is this node's own member; run the command on another node")
    ours = next((one for one in view.members if name_of(one) == wanted.name), None)
    if ours is not None and ours.started and not ours.learner and view.answers(wanted.name):
        return Replaced()
    return _barred(wanted, view, view.members) or _step(wanted, view, view.members, ours)


def _step(
    wanted: Wanted, view: ClusterView, members: tuple[ClusterMember, ...], ours: ClusterMember | None
) -> Step | Rejected:
    if ours is None:
        return Add()
    if ours.learner:
        if ours.peer_urls != (wanted.url,):
            told = f"{wanted.name} is a learner at {', '.join(ours.peer_urls)}, expected {wanted.url}"
            advice = f"`etcdctl member remove {ours.id:x}`, and run the command again"
            return Rejected("etcd/replace", f"{told}; {advice}")
        if not ours.started:
            return Await(f"the node of {wanted.name} starts it, on a blank volume")
        if not view.answers(wanted.name):
            return Await(f"{wanted.name} answers at its peer port")
        return Promote(ours.id)
    if not ours.started:
        return Await(f"the node of {wanted.name} starts it: it was added with a vote")
    return _removal(wanted, view, members, ours)


def _removal(
    wanted: Wanted, view: ClusterView, members: tuple[ClusterMember, ...], ours: ClusterMember
) -> Remove | Rejected:
    if wanted.name not in view.peers:
        evidence = (
            f"{wanted.name} was not asked whether it serves (expected an answer, or none); run the command again"
        )
        return Rejected("etcd/replace", evidence)
    listed = {name_of(one) for one in members}
    if gone := [name for name in wanted.all if name not in listed]:
        evidence = f"{', '.join(gone)} is not in the list: it may be on its way out, and is to be replaced first"
        return Rejected("etcd/replace", evidence)
    voters = [one for one in members if not one.learner]
    alive = [name_of(one) for one in voters if one.id != ours.id and view.answers(name_of(one))]
    needed = max(quorum(len(voters)), quorum(len(voters) - 1))
    if len(alive) < needed or len(voters) < 3:
        told = (
            f"{len(alive)} of {len(voters)} members answer without {name_of(ours)} ({', '.join(alive) or 'none'}), "
            f"and its removal needs {max(needed, 2)}"
        )
        return Rejected(NO_QUORUM, f"{told}; start the others that are down")
    return Remove(ours.id)


def _barred(wanted: Wanted, view: ClusterView, members: tuple[ClusterMember, ...]) -> Rejected | None:
    """Why nothing may be changed now: another member is being changed, or the data is in doubt."""
    others = [one for one in members if name_of(one) != wanted.name]
    if busy := [name_of(one) for one in others if one.learner or not one.started]:
        evidence = f"{', '.join(busy)} is a learner, or never started: one member at a time"
        return Rejected("etcd/replace", evidence)
    if not isinstance(view.status, MemberStatus) or not view.status.leader:
        return Rejected(NO_QUORUM, f"{view.name} knows no leader; wait for an election, and try again")
    if isinstance(view.alarms, Unknown):
        return Rejected("etcd/replace", f"the alarms of the etcd cluster can't be read: {view.alarms.reason}")
    corrupt = [view.label(one.member_id) for one in view.alarms if one.kind == CORRUPT and not view.gone(one)]
    if others_corrupt := [one for one in corrupt if one != wanted.name]:
        evidence = f"{', '.join(others_corrupt)} may be corrupt: a new member would copy from it"
        return Rejected("etcd/corrupt", evidence)
    return None


def quorum(voters: int) -> int:
    """The smallest majority of so many voters."""
    return voters // 2 + 1


def plan_text(cluster: str, wanted: Wanted, view: ClusterView, step: Step) -> str:
    """What a replacement will do from here, and what holds meanwhile."""
    members = () if isinstance(view.members, Unknown) else view.members
    voters = [name_of(one) for one in members if not one.learner]
    left = [name for name in voters if name != wanted.name]
    spare = len(left) - quorum(len(left))
    meanwhile = (
        f"Until {wanted.name} is promoted, {', '.join(left)} vote: of them {spare or 'none'} may fail."
        if len(left) > 1
        else ""
    )
    lines = [f"Replace {wanted.name} in etcd cluster {cluster}, seen by {view.name}:"]
    steps = []
    if isinstance(step, Remove):
        steps += ["take a backup, and check it", f"remove {wanted.name} ({step.id:x}) from the member list"]
    if isinstance(step, Add):
        steps.append("take a backup, and check it")
    if isinstance(step, Remove | Add):
        steps.append(f"add it as a learner, at {wanted.url}")
    if isinstance(step, Remove | Add | Await):
        steps.append("wait until its own node has started it, on a blank volume, by itself")
    steps.append("promote it, once it has caught up")
    lines += [f"  {number}. {text}" for number, text in enumerate(steps, 1)]
    return "\n".join([*lines, *([meanwhile] if meanwhile else [])])
