"""When an owner of a shared record is terminated: only then may other nodes remove its records.

Either the cloud says so, or its answers have listed this instance and not the owner for ten minutes. An answer that
lacks this instance too proves nothing: it may come from a wrong account or region. A stopped instance is not
terminated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field

from protokube.core.dns.model import RecordSet
from protokube.core.model import Unknown
from protokube.core.volumes.model import Peer, PeerState

# EC2's API is eventually consistent, and an answer without an instance doesn't show that it has ended (EC2 Developer
# Guide, "Eventual consistency in the Amazon EC2 API"). It advises to ask again for up to minutes.
ABSENCE = 600.0
"""Seconds between the first and the last answer without the owner."""


class Absences(Struct, frozen=True):
    """Since when owners have been missing from the cloud's answers: owner → (first, last such answer), in seconds.

    Losing it costs delay, never an effect.
    """

    spans: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def seen(self, now: float, me: str, peers: Sequence[Peer] | Unknown, owners: Iterable[str] | Unknown) -> Absences:
        """Take in one answer of the cloud. `owners` are the owners of the records that were read.

        An answer that failed, or that lacks this instance, changes nothing. While the records are Unknown, the owners
        that were missing before are followed further.
        """
        if isinstance(peers, Unknown):
            return self
        listed = {peer.instance for peer in peers}
        if me not in listed:
            return self
        missing = set(self.spans if isinstance(owners, Unknown) else owners) - listed
        return Absences({owner: (self.spans.get(owner, (now, now))[0], now) for owner in sorted(missing)})

    def absent_for(self) -> dict[str, float]:
        """Seconds for which each owner has been missing, from the first to the last answer without it."""
        return {owner: last - first for owner, (first, last) in self.spans.items()}


class OwnerTracking(Struct, frozen=True):
    """The absences of other owners, and how many of their records this reconcile has removed."""

    absences: Absences = Absences()
    removed: int = 0


def owners(records: Mapping[str, RecordSet] | Unknown) -> set[str] | Unknown:
    """The owners of the records that were read."""
    if isinstance(records, Unknown):
        return records
    return {one.owner for current in records.values() for one in current.owned if one.owner}


def terminated_owners(me: str, peers: Sequence[Peer] | Unknown, absent_for: Mapping[str, float]) -> dict[str, str]:
    """The terminated owners, each with its evidence; none while the peers are Unknown."""
    if isinstance(peers, Unknown) or not any(peer.instance == me for peer in peers):
        return {}
    said = "the cloud says that it is terminated"
    terminated = {peer.instance: said for peer in peers if peer.state is PeerState.TERMINATED}
    listed = {peer.instance for peer in peers}
    for owner, seconds in absent_for.items():
        if seconds >= ABSENCE and owner not in listed:
            terminated[owner] = f"absent from the cloud's answers for {seconds:.0f} s"
    terminated.pop(me, None)
    return terminated
