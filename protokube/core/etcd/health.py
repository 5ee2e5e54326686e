"""How an etcd cluster is, as one of its nodes sees it: what people should know, each with its rule.

An alarm holds for the whole cluster, whoever raised it. What a member says of its own database only its own node can
ask, where the client port listens on 127.0.0.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from protokube.core.etcd.running import CORRUPT, NOSPACE, Alarm, ClusterMember, MemberStatus, PeerAbout
from protokube.core.model import MIB, Unknown

DEFAULT_QUOTA = 2 * 1024 * MIB
"""etcd's own quota where none is set (etcd's DefaultQuotaBytes)."""

NEARLY_FULL = 0.8
"""The part of its quota from which on a database is reported."""

CLOCK_SKEW = 2.0
"""Seconds. etcd warns from 1 on (its clock difference threshold); a time that HTTP carries is good to a second."""


class ClusterView(Struct, frozen=True):
    """What this node sees of an etcd cluster.

    `name` is our member's; `status` its own word. `members` are known with quorum, else Unknown. `peers` are the
    others, by name: what their peer ports tell.
    """

    name: str
    status: MemberStatus | Unknown
    members: tuple[ClusterMember, ...] | Unknown
    alarms: tuple[Alarm, ...] | Unknown = ()
    peers: Mapping[str, PeerAbout | Unknown] = {}

    @property
    def quota(self) -> int:
        """The quota of our member's database, in bytes."""
        told = None if isinstance(self.status, Unknown) else self.status.quota
        return told or DEFAULT_QUOTA

    def gone(self, alarm: Alarm) -> bool:
        """Whether an alarm is of a member that was removed: it holds until somebody takes it back."""
        return not isinstance(self.members, Unknown) and is_gone(alarm, self.members)

    def label(self, member_id: int) -> str:
        """A member's name by its id, or the id as etcd spells it."""
        listed = () if isinstance(self.members, Unknown) else self.members
        return next((name_of(one) for one in listed if one.id == member_id), f"{member_id:x}")

    def answers(self, name: str) -> bool:
        """Whether a member answers: ours at its client port, another one at its peer port."""
        if name == self.name:
            return not isinstance(self.status, Unknown)
        return isinstance(self.peers.get(name), PeerAbout)


class Problem(Struct, frozen=True):
    """Something that people should know: the rule, and the evidence with the remedy."""

    rule: str
    evidence: str


def is_gone(alarm: Alarm, members: Iterable[ClusterMember]) -> bool:
    """Whether an alarm is of none of these members. The id 0 is nobody's: etcd doesn't know which member is corrupt
    (etcd's corrupt.go)."""
    return (
        alarm.member_id != 0 and alarm.kind in (NOSPACE, CORRUPT) and alarm.member_id not in {m.id for m in members}
    )


def name_of(member: ClusterMember) -> str:
    """A member's name. One that never started has none: the first label of its peer URL's host is its name."""
    return member.name or member.peer_urls[0].partition("//")[2].partition(":")[0].partition(".")[0]


def problems(cluster: str, view: ClusterView) -> list[Problem]:
    """What is wrong with an etcd cluster; nothing when it is well."""
    return [*_quorum(view), *_alarms(cluster, view), *_space(cluster, view), *_members(cluster, view), *_clocks(view)]


def _quorum(view: ClusterView) -> Iterator[Problem]:
    if isinstance(view.status, Unknown):
        yield Problem("etcd/no-quorum", f"{view.name} doesn't answer: {view.status.reason}")
    elif not view.status.leader:
        yield Problem("etcd/no-quorum", f"{view.name} knows no leader: start the members that are down")
    elif isinstance(view.members, Unknown):
        yield Problem("etcd/no-quorum", f"{view.name} reads nothing with quorum: {view.members.reason}")


def _alarms(cluster: str, view: ClusterView) -> Iterator[Problem]:
    for alarm in () if isinstance(view.alarms, Unknown) else view.alarms:
        name = view.label(alarm.member_id)
        if view.gone(alarm):
            evidence = (
                f"the alarm {alarm.kind} is of {name}, a member that was removed; "
                f"`protokube etcd defrag --cluster {cluster}` takes it back"
            )
            yield Problem("etcd/corrupt" if alarm.kind == CORRUPT else "etcd/nospace", evidence)
        elif alarm.kind == NOSPACE:
            evidence = (
                f"the database of {name} has reached its quota, and the cluster takes no writes; "
                f"run `protokube etcd defrag --cluster {cluster}` on its node, then on the others"
            )
            yield Problem("etcd/nospace", evidence)
        elif alarm.kind == CORRUPT:
            evidence = (
                f"{name} differs from the others, or can't be compared; stop it, give it a blank volume, and run "
                f"`protokube etcd replace --cluster {cluster} --member` for it on a healthy node"
            )
            yield Problem("etcd/corrupt", evidence)


def _space(cluster: str, view: ClusterView) -> Iterator[Problem]:
    if isinstance(view.status, Unknown):
        return
    full = not isinstance(view.alarms, Unknown) and any(one.kind == NOSPACE for one in view.alarms)
    if view.status.size >= view.quota * NEARLY_FULL and not full:
        evidence = (
            f"the database of {view.name} has {size(view.status.size)} of {size(view.quota)}, "
            f"{size(view.status.in_use)} of them in use; run `protokube etcd defrag --cluster {cluster}`, "
            "or find what fills it"
        )
        yield Problem("etcd/nospace", evidence)


def _members(cluster: str, view: ClusterView) -> Iterator[Problem]:
    for member in () if isinstance(view.members, Unknown) else view.members:
        name = name_of(member)
        if member.learner:
            state = "hasn't started" if not member.started else "isn't promoted"
            evidence = (
                f"{name} is a learner, has no vote and {state}; `protokube etcd replace --cluster {cluster}` goes on "
                "with it"
            )
            yield Problem("etcd/learner", evidence)
        elif not member.started:
            yield Problem("etcd/member-silent", f"{name} was added, and never started")
        if member.started and not view.answers(name):
            told = view.peers.get(name, Unknown("no address of it is known"))
            reason = told.reason if isinstance(told, Unknown) else ""
            yield Problem("etcd/member-silent", f"{name} doesn't answer at its peer port: {reason}")


def _clocks(view: ClusterView) -> Iterator[Problem]:
    for name, told in sorted(view.peers.items()):
        if isinstance(told, PeerAbout) and told.ahead is not None and abs(told.ahead) > CLOCK_SKEW:
            way = "ahead of" if told.ahead > 0 else "behind"
            evidence = (
                f"the clock of {name} is {abs(told.ahead):g} s {way} that of {view.name}; leases and certificates "
                "follow clocks: start a time service"
            )
            yield Problem("etcd/clock", evidence)


def size(count: int) -> str:
    """Bytes for people."""
    if count < MIB:
        return f"{count / 1024:.0f} KiB"
    return f"{count / MIB:.0f} MiB" if count < 1024 * MIB else f"{count / MIB / 1024:.1f} GiB"
