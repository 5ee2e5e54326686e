"""The actions on a running etcd, through this machine's own member."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from msgspec.structs import replace

from protokube.core.action import ActionValue, Facet
from protokube.core.etcd.model import LocalMember, PeerChange, ServedEtcd
from protokube.core.etcd.turns import LIFE, TURN_KEY
from protokube.core.model import Unknown

Served = Mapping[str, ServedEtcd | Unknown]


class EtcdWriter(Protocol):
    """Changes what an etcd cluster knows, by way of this machine's own member. Every call needs a quorum."""

    def update_member(self, action: UpdateMember) -> None:
        """Change a member's peer URLs. Refuses a learner, and a member whose URLs are others than expected."""

    def tell(self, action: TellAuthorities) -> None:
        """Write what a member trusts."""

    def take_turn(self, action: TakeAnyTurn) -> None:
        """Take a turn to restart, unless another member or node has taken it meanwhile; etcd forgets it later."""

    def give_back(self, action: GiveAnyTurnBack) -> None:
        """Give a turn back, unless it is another one by now."""


class EtcdAction(ActionValue, frozen=True):
    """The base of the actions on a running etcd."""

    port: ClassVar[str] = "etcd"
    facts: ClassVar[str] = "served"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.MEMBERS})
    at: LocalMember

    @property
    def subject(self) -> str:
        """The member."""
        return f"{self.at.name} of etcd cluster {self.at.cluster}"

    def _with(self, facts: Served, after: ServedEtcd) -> Served:
        return {**facts, self.at.cluster: after}


class UpdateMember(EtcdAction, frozen=True, tag="update-member"):
    """Change a member's peer URL in the member list."""

    change: PeerChange

    def describe(self) -> str:
        """One line for people."""
        return f"change the peer URL of {self.at.name} to {self.change.new}"

    def predict(self, facts: Served, now: float) -> Served:
        """The list has it."""
        served = facts[self.at.cluster]
        assert isinstance(served, ServedEtcd)
        members = tuple(
            replace(one, peer_urls=(self.change.new,)) if one.id == self.change.id else one for one in served.members
        )
        return self._with(facts, replace(served, members=members))

    def execute(self, port: EtcdWriter) -> None:
        """Change it."""
        port.update_member(self)


class TellAuthorities(EtcdAction, frozen=True, tag="tell-authorities"):
    """Write to etcd which authorities a member trusts, and which have issued its certificates: ids, and no key."""

    text: str

    def describe(self) -> str:
        """One line for people."""
        return f"tell the members of etcd cluster {self.at.cluster} which authorities {self.at.name} trusts"

    def predict(self, facts: Served, now: float) -> Served:
        """It is told."""
        served = facts[self.at.cluster]
        assert isinstance(served, ServedEtcd)
        return self._with(facts, replace(served, told={**served.told, self.at.name: self.text}))

    def execute(self, port: EtcdWriter) -> None:
        """Tell it."""
        port.tell(self)


class TakeAnyTurn(EtcdAction, frozen=True):
    """Take a turn to restart something. `old` is the key's value now, empty for none, and `text` the one to write.

    `key` is below `protokube/`; etcd forgets it after `life` seconds. `told_as` is the field of what is served.
    """

    key: ClassVar[str]
    life: ClassVar[int]
    told_as: ClassVar[str]
    old: str
    text: str

    def predict(self, facts: Served, now: float) -> Served:
        """It is taken."""
        served = facts[self.at.cluster]
        assert isinstance(served, ServedEtcd)
        return self._with(facts, replace(served, **{self.told_as: self.text}))

    def execute(self, port: EtcdWriter) -> None:
        """Take it."""
        port.take_turn(self)


class TakeTurn(TakeAnyTurn, frozen=True, tag="take-turn"):
    """Take the turn of our member to restart."""

    key: ClassVar[str] = TURN_KEY
    life: ClassVar[int] = LIFE
    told_as: ClassVar[str] = "turn"

    def describe(self) -> str:
        """One line for people."""
        return f"take the turn of {self.at.name} to restart"


class GiveAnyTurnBack(EtcdAction, frozen=True):
    """Give a turn to restart something back. `text` is the key's value, `key` and `told_as` as where it is taken."""

    key: ClassVar[str]
    told_as: ClassVar[str]
    text: str

    def predict(self, facts: Served, now: float) -> Served:
        """It is nobody's."""
        served = facts[self.at.cluster]
        assert isinstance(served, ServedEtcd)
        return self._with(facts, replace(served, **{self.told_as: ""}))

    def execute(self, port: EtcdWriter) -> None:
        """Give it back."""
        port.give_back(self)


class GiveTurnBack(GiveAnyTurnBack, frozen=True, tag="give-turn-back"):
    """Give the turn of our member to restart back."""

    key: ClassVar[str] = TURN_KEY
    told_as: ClassVar[str] = "turn"

    def describe(self) -> str:
        """One line for people."""
        return f"give the turn of {self.at.name} to restart back"
