"""What a running etcd cluster says about itself."""

from __future__ import annotations

from msgspec import Struct


class ClusterMember(Struct, frozen=True):
    """A member as the cluster lists it. One that never started has no name and no client URLs.

    A learner gets all that is written, and has no vote until it is promoted.
    """

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...] = ()
    learner: bool = False

    @property
    def started(self) -> bool:
        """Whether it ever started: a member publishes its client URLs then."""
        return bool(self.client_urls)


class MemberStatus(Struct, frozen=True):
    """What one member says about itself. Sizes are bytes; `in_use` is what a defragmentation would leave.

    `leader` is 0 while it knows none. `quota` is None where its version doesn't tell (before 3.6).
    """

    cluster_id: int
    member_id: int
    version: str
    leader: int
    term: int
    revision: int
    applied: int
    committed: int
    size: int
    in_use: int
    quota: int | None = None
    learner: bool = False
    errors: tuple[str, ...] = ()

    @property
    def leads(self) -> bool:
        """Whether this member is the leader."""
        return self.leader == self.member_id


class PeerAbout(Struct, frozen=True):
    """What a member's peer port tells: its version, and by how many seconds its clock is ahead of this node's (to a
    second or so); None when it doesn't tell the time."""

    version: str
    ahead: float | None = None


NOSPACE, CORRUPT = "NOSPACE", "CORRUPT"


class Alarm(Struct, frozen=True):
    """An alarm that a member has raised, and that holds for the whole cluster: NOSPACE or CORRUPT."""

    member_id: int
    kind: str


class Keys(Struct, frozen=True):
    """How many keys a cluster has, at which revision."""

    count: int
    revision: int


class Snapshot(Struct, frozen=True):
    """A snapshot that was written, its hash checked: its size and sha256 are of all of it, trailer included."""

    size: int
    sha256: str
