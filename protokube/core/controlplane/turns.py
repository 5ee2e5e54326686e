"""Whose turn it is to change a running API server: one node after the other, and nobody coordinates.

The nodes have slots of the clock, in the order of their names; certificates need clocks that agree anyway. A change
begins in the first part of the node's own slot, and while every other API server is healthy by its own word. What is
left of the slot is longer than kubelet gives the old process to end, so that the next node sees what became of the
change. A node whose own API server isn't healthy waits for nobody: nothing more can be lost there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from protokube.core.dns.names import MAIN, member_nodes
from protokube.core.model import Unknown
from protokube.core.volumes.model import Peer, PeerState, VolumesAssessment

SLOT = 120.0
"""Seconds of a node's turn."""
OPEN = 75.0
"""Seconds of it in which a change may begin: more than the pause between two reconciles."""
_DAY = 86400.0


def other_api_servers(volumes: VolumesAssessment, peers: Sequence[Peer] | Unknown) -> Mapping[str, str] | Unknown:
    """The internal addresses of the other running nodes with a volume of `main`, by instance."""
    if isinstance(peers, Unknown):
        return peers
    return {
        one.instance: one.internal[0]
        for one in member_nodes(peers, volumes.attached)
        if one.instance != volumes.instance.id
        and one.state is PeerState.RUNNING
        and one.internal
        and any(cluster == MAIN for cluster, _ in one.members)
    }


def not_yet(own: str, others: Iterable[str], now: float) -> str | None:
    """Why a node's turn isn't now; None when it is. `now`: seconds since the epoch."""
    order = sorted({*others, own})
    period = SLOT * len(order)
    begins = order.index(own) * SLOT
    since = (now - begins) % period
    if len(order) == 1 or since < OPEN:
        return None
    at = int((now - since + period) % _DAY)
    clock = f"{at // 3600:02}:{at // 60 % 60:02}:{at % 60:02} UTC"
    return f"API servers change one after the other; this node's turn begins at {clock}"
