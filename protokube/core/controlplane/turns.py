"""Whose turn it is to change a running API server: one node after the other, as etcd's members restart.

Before a node changes an API server that runs it takes the turn: a key in its etcd, which a quorum gives to one node
only, whatever their clocks say. It takes the key anew while it watches the change, and gives it back when the API
server has come up. A node that dies gives nothing back: etcd forgets the key.

Of a key of ours only our own clock is read, and of another node's only who holds it: clocks needn't agree.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from protokube.core.etcd.actions import GiveAnyTurnBack, TakeAnyTurn
from protokube.core.etcd.model import LocalMember, ServedEtcd
from protokube.core.etcd.rolling import NotYet, Turn
from protokube.core.etcd.turns import API_TURN_KEY, holder, spell_turn
from protokube.core.model import Unknown

LIFE = 180
"""Seconds after which etcd forgets a turn: more than lie between two reconciles in which it is taken anew."""

FRESH = 45.0
"""Seconds within which a turn is used, and after which it is taken anew."""

_SUBJECT = "turn of the API servers"


class TakeApiTurn(TakeAnyTurn, frozen=True, tag="take-api-turn"):
    """Take the turn to change this node's API server, or take it anew."""

    key: ClassVar[str] = API_TURN_KEY
    life: ClassVar[int] = LIFE
    told_as: ClassVar[str] = "api_turn"

    @property
    def subject(self) -> str:
        """The turn."""
        return _SUBJECT

    def describe(self) -> str:
        """One line for people."""
        return f"take the turn of {holder(self.text)} to change its API server"


class GiveApiTurnBack(GiveAnyTurnBack, frozen=True, tag="give-api-turn-back"):
    """Give the turn to change an API server back."""

    key: ClassVar[str] = API_TURN_KEY
    told_as: ClassVar[str] = "api_turn"

    @property
    def subject(self) -> str:
        """The turn."""
        return _SUBJECT

    def describe(self) -> str:
        """One line for people."""
        return f"give the turn of {holder(self.text)} to change its API server back"


class Asker(Struct, frozen=True):
    """Who wants the turn: a node, by its instance, its member of `main`, and the time by its clock."""

    instance: str
    at: LocalMember
    now: float

    def may_change(self, served: ServedEtcd | Unknown, *, down: bool) -> Turn | TakeApiTurn | NotYet:
        """Whether the node may change its API server now. `down`: nobody listens at that one's port."""
        if isinstance(served, Unknown):
            # Only what is down anyway is restarted unasked: a restart takes nothing away then.
            reason = (
                f"etcd main can't be asked whose turn it is ({served.reason}), and so nothing that runs is changed"
            )
            return Turn() if down else NotYet(reason)
        if len(served.members) == 1 or self._is_fresh(served):
            return Turn()
        if served.api_turn and not self.holds(served):
            return NotYet(f"{holder(served.api_turn)} changes its API server first")
        return self._take(served)

    def keep(self, served: ServedEtcd | Unknown) -> TakeApiTurn | None:
        """The turn, to take anew while the change is watched; None where there is nothing to do yet."""
        if isinstance(served, Unknown) or len(served.members) == 1 or self._is_fresh(served):
            return None
        return self._take(served) if self.holds(served) or not served.api_turn else None

    def holds(self, served: ServedEtcd | Unknown) -> bool:
        """Whether the node has the turn."""
        return isinstance(served, ServedEtcd) and holder(served.api_turn) == self.instance

    def _is_fresh(self, served: ServedEtcd) -> bool:
        taken = served.api_turn.partition(" ")[2]
        return self.holds(served) and taken.isdecimal() and 0 <= self.now - int(taken) <= FRESH

    def _take(self, served: ServedEtcd) -> TakeApiTurn:
        return TakeApiTurn(self.at, served.api_turn, spell_turn(self.instance, self.now))
