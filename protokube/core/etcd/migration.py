"""A plaintext etcd cluster moves to TLS while it serves, one member at a time.

For each member: its peer URL becomes https in the member list, then it restarts with TLS. A member that starts
publishes its client URLs through the cluster, so that the list shows where each member stands:

| peer URL | client URLs | |
| --- | --- | --- |
| http | | plain |
| https | http | its restart comes next |
| https | https | it has restarted, and takes part |

All members at https before the first restart is what etcd's guide says. There a restarted member can't be reached
before the second one has restarted, too (measured: writes paused for 3.3 s, and a crash in between is an outage).
With one member after the other every step is healthy: a member with TLS dials those without by http, both ways.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from msgspec import Struct

from protokube.core.etcd.model import EtcdSettings, MountedMember, PeerAnswers, ServedEtcd
from protokube.core.etcd.rolling import NotYet, may_stop, own_entry, unready
from protokube.core.etcd.running import ClusterMember
from protokube.core.model import Rejected, Unknown
from protokube.core.static_pod import manifest_env


class Stage(Enum):
    """Where a member stands on its way to TLS."""

    PLAIN = "plain"
    MOVING = "moving"
    SECURE = "secure"


class MovePeer(Struct, frozen=True):
    """Our member's peer URL is to become https in the member list. `id` is the member's, `old` its URLs now."""

    id: int
    old: tuple[str, ...]


class Restart(Struct, frozen=True):
    """Our member is to restart with TLS."""


Step = MovePeer | Restart | NotYet | Rejected


def wants_tls(settings: EtcdSettings, member: MountedMember) -> bool:
    """Whether a member that runs without TLS is to move to it."""
    present = manifest_env(member.manifest).get("ETCD_LISTEN_PEER_URLS", "")
    plain = present.startswith("http:") and member.has_data
    return plain and settings.tls == "on" and member.template.supports_tls


def next_step(
    name: str, served: ServedEtcd | Unknown, answers: PeerAnswers | Unknown, heard: Collection[str]
) -> Step:
    """The next step of our member, which runs without TLS. `heard`: the names of members whose peer ports answer."""
    if isinstance(served, Unknown):
        return _without_quorum(name, answers) or NotYet(f"{name} doesn't answer with quorum ({served.reason})")
    ours = own_entry(served, name)
    if ours is None:
        return NotYet(f"{name} isn't in its cluster's member list")
    if stage_of(ours) is not Stage.PLAIN:
        waits = may_stop(served, name, heard)
        return waits if isinstance(waits, NotYet) else Restart()
    if others := unready(served):
        # `member update` promotes a learner, unasked (etcd-io/etcd 21694).
        evidence = f"{', '.join(others)} never started, or is a learner; promote or remove it, and the cluster moves"
        return Rejected("etcd/tls-mixed", evidence)
    if first := _before(name, served.members):
        return NotYet(f"{first} moves to TLS first")
    waits = may_stop(served, name, heard)
    return waits if isinstance(waits, NotYet) else MovePeer(ours.id, ours.peer_urls)


def stage_of(member: ClusterMember) -> Stage:
    """Where a listed member stands."""
    if not all(url.startswith("https:") for url in member.peer_urls):
        return Stage.PLAIN
    secure = member.started and all(url.startswith("https:") for url in member.client_urls)
    return Stage.SECURE if secure else Stage.MOVING


def _before(name: str, members: Collection[ClusterMember]) -> str:
    """The member that comes before ours: the one that is moving, else the first plain one by name; "" for none."""
    moving = sorted(one.name for one in members if stage_of(one) is Stage.MOVING)
    plain = sorted(one.name for one in members if stage_of(one) is Stage.PLAIN)
    first = (*moving, *plain)[0]
    return "" if first == name else first


def _without_quorum(name: str, answers: PeerAnswers | Unknown) -> Restart | None:
    """Restart, where others list our member with https already: without TLS it can't be reached and serves nobody."""
    lists = answers.lists.values() if isinstance(answers, PeerAnswers) else ()
    listed = [url for one in lists for peer in one if peer.name == name for url in peer.peer_urls]
    return Restart() if any(url.startswith("https:") for url in listed) else None
