"""Whose turn it is to restart: the one place that decides it, for whatever reason a manifest changes.

Members restart for a version, for TLS, for authorities, for another template or setting. Each reason has its own
order and its own bars; but two members of one etcd cluster must never restart side by side, for whatever reasons. So
before a running member's manifest is changed, its node takes the turn: a key in etcd itself, which a quorum gives to
one member only. It gives the turn back when the member runs again. A node that can't is no trouble: etcd forgets the
key after a while, and while a member is silent nobody restarts anyway.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from protokube.core.etcd.model import NotListening, ServedEtcd
from protokube.core.etcd.rolling import NotYet, Turn, may_stop, unready
from protokube.core.model import Unknown

TURN_KEY = "turn"
"""The key, below `protokube/`. Its value is the member's name and when it took the turn, by its node's clock."""

API_TURN_KEY = "api-server-turn"
"""The key by which the API servers that write to this etcd cluster take turns (core/controlplane/turns.py)."""

LIFE = 60
"""Seconds after which etcd forgets a turn."""

FRESH = 20.0
"""Seconds within which a turn is to be used. The rest of its life is for kubelet: it looks every 20 s, and notices a
new link at once."""


class TakeTurn(Enum):
    """The turn is free, or ours and too old: it is to be taken first."""

    TAKE = "take"


def spell_turn(name: str, now: float) -> str:
    """The turn of a member, taken at `now` (seconds since the epoch)."""
    return f"{name} {int(now)}"


def holder(turn: str) -> str:
    """The member whose turn it is; empty for nobody's."""
    return turn.partition(" ")[0]


def whose_turn(
    name: str, served: ServedEtcd | Unknown, heard: Collection[str], now: float
) -> Turn | TakeTurn | NotYet:
    """Whether our member, whose manifest is to change, may restart. `heard`: the members whose peer ports answer."""
    if isinstance(served, NotListening):
        return Turn()  # it is down: a restart takes nothing away, and the change may be the remedy
    if isinstance(served, Unknown):
        return NotYet(f"{name} doesn't answer with quorum ({served.reason})")
    if len(served.members) == 1:
        return Turn()
    if others := unready(served):
        return NotYet(f"{', '.join(others)} never started, or is a learner")
    waits = may_stop(served, name, heard)
    if isinstance(waits, NotYet):
        return waits
    if not served.turn:
        return TakeTurn.TAKE
    if holder(served.turn) != name:
        return NotYet(f"{holder(served.turn)} restarts first")
    taken = served.turn.partition(" ")[2]
    # A clock that was set back, or another's key, proves nothing.
    fresh = taken.isdecimal() and 0 <= now - int(taken) <= FRESH
    return Turn() if fresh else TakeTurn.TAKE


def is_over(name: str, served: ServedEtcd | Unknown, *, restarted: bool) -> bool:
    """Whether our member's turn may be given back: it has restarted, and serves."""
    return isinstance(served, ServedEtcd) and holder(served.turn) == name and restarted
