"""This machine's role by tags and by configuration, and addresses that two nodes give."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protokube.core.model import Unknown
from protokube.core.volumes.model import Peer, PeerState
from tests.core.states import INSTANCE, kinds, planned, rules, state


@pytest.mark.parametrize(
    ("master", "roles", "contradicted"),
    [
        (True, (), False),
        (True, ("master",), False),
        (True, ("control-plane", "master"), False),
        (True, ("master", "node"), False),
        (True, ("node",), True),
        (True, ("bastion",), True),
        (False, (), False),
        (False, ("node",), False),
        (False, ("master", "node"), False),
        (False, ("master",), True),
        (False, ("apiserver", "control-plane"), True),
    ],
)
def test_a_role_that_contradicts_the_configuration_is_refused_by_its_rule(
    master: bool, roles: tuple[str, ...], contradicted: bool
) -> None:
    plan = planned(state(instance=replace(INSTANCE, roles=frozenset(roles))), master=master)
    assert rules(plan, "instance") == (["instance/role"] if contradicted else [])
    if contradicted:
        assert not plan.converged
        (evidence,) = (one.evidence for one in plan.refusals if one.subject == "instance")
        assert ", ".join(roles) in evidence
        assert "--master is set" in evidence if master else "--master is not set" in evidence


def test_the_configuration_decides() -> None:
    odd = replace(INSTANCE, roles=frozenset({"node"}))
    assert kinds(planned(state(instance=odd))) == kinds(planned(state())) == ["format-volume"]


def rules_beside(other: Peer, *, master: bool = True) -> list[str]:
    """The rules that refuse this instance, beside another peer."""
    own = Peer(INSTANCE.id, INSTANCE.internal)
    return rules(planned(state(peers=(own, other)), master=master), "instance")


@pytest.mark.parametrize("state_", [PeerState.RUNNING, PeerState.STOPPED])
def test_two_nodes_that_give_one_address_are_refused(state_: PeerState) -> None:
    other = Peer("n2", ("10.0.0.1", "fd00::2"), state=state_)
    plan = planned(state(peers=(Peer(INSTANCE.id, INSTANCE.internal), other)))
    (refusal,) = (one for one in plan.refusals if one.subject == "instance")
    assert refusal.rule == "instance/address"
    assert "n1 and n2 give the same address 10.0.0.1 (expected one each)" in refusal.evidence
    assert "internalAddress in the inventory" in refusal.evidence
    assert kinds(plan) == kinds(planned(state())), "the fault stops nothing else"


def test_addresses_that_no_other_node_uses_are_no_fault() -> None:
    assert rules_beside(Peer("n2", ("10.0.0.2",))) == []
    assert rules_beside(Peer("n2", ("10.0.0.1",), state=PeerState.TERMINATED)) == []
    assert rules_beside(Peer("n2", ("10.0.0.2",), external=("10.0.0.1",))) == []
    assert rules_beside(Peer("n2", ("10.0.0.1",)), master=False) == [], "a worker has no names"
    assert rules(planned(state(peers=Unknown("throttled"))), "instance") == []
