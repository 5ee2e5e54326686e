"""What the cloud's tags say of this machine's role, beside what is configured."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

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
