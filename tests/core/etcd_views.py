"""etcd clusters as one node sees them: member a's node, and members by their letters."""

from __future__ import annotations

from protokube.core.etcd.health import ClusterView
from protokube.core.etcd.running import ClusterMember, MemberStatus, PeerAbout
from protokube.core.model import MIB, Unknown

URL = "http://etcd-{}.internal.dev.example.com:2380"
CLIENT = "http://etcd-{}.internal.dev.example.com:4001"


def listed(id_: int, letter: str, *, started: bool = True, learner: bool = False) -> ClusterMember:
    """A member in the list."""
    name, clients = (f"etcd-{letter}", (CLIENT.format(letter),)) if started else ("", ())
    return ClusterMember(id_, name, (URL.format(letter),), clients, learner)


def status(version: str = "3.5.30") -> MemberStatus:
    """What member a says, which leads."""
    return MemberStatus(
        cluster_id=9,
        member_id=1,
        version=version,
        leader=1,
        term=2,
        revision=100,
        applied=120,
        committed=120,
        size=20 * MIB,
        in_use=10 * MIB,
        quota=2048 * MIB,
    )


def view(voters: str, *, silent: str = "", learner: str = "", added: str = "") -> ClusterView:
    """A cluster of started voters, started learners, and learners that were added and never started.

    The id of a member is its place in the alphabet.
    """

    def id_(letter: str) -> int:
        return ord(letter) - ord("a") + 1

    members = [listed(id_(one), one) for one in voters]
    members += [listed(id_(one), one, learner=True) for one in learner]
    members += [listed(id_(one), one, started=False, learner=True) for one in added]
    others = {*voters, *learner, *added} - {"a"}
    return ClusterView(
        "etcd-a",
        status(),
        tuple(members),
        (),
        {
            f"etcd-{one}": Unknown("no answer") if one in (*silent, *added) else PeerAbout("3.5.30", 0.0)
            for one in sorted(others)
        },
    )
