"""Values as JSON, both ways."""

from __future__ import annotations

import msgspec
import pytest

from protokube.core.action import kinds
from protokube.core.codec import decode, encode
from protokube.core.history import History
from protokube.core.observed import Observed
from protokube.core.steps import Plan, Step
from protokube.report.account import StepReport
from tests.rounds.process import Process, node_config
from tests.rounds.world import World


def whole_way() -> list[StepReport]:
    """Every step of a node's way from blank disks to kubelet."""
    world = World()
    world.volume("vol-m", "a/a")
    world.volume("vol-e", "a/a", "events")
    return list(Process(world, world.node("n1"), node_config()).dry_run().steps)


def test_every_step_of_the_way_comes_back_as_it_was() -> None:
    steps = whole_way()
    assert {one.step.action.kind for one in steps} >= {
        "attach-volume",
        "format-volume",
        "write-file",
        "change-records",
    }
    for one in steps:
        assert decode(encode(one), StepReport) == one


def test_a_plan_and_a_history_come_back_as_they_were() -> None:
    plan = Plan(steps=[one.step for one in whole_way()], failed=frozenset({"vol-m"}))
    plan.refuse("vol-m", "format/not-blank", "evidence")
    assert decode(encode(plan), Plan) == plan
    history = History().next_reconcile()
    assert decode(encode(history), History) == history


def test_what_was_observed_can_be_written_down() -> None:
    world = World()
    world.volume("vol-m", "a/a")
    observed = Process(world, world.node("n1")).round().observed
    assert b"vol-m" in encode(observed) and isinstance(observed, Observed)


def test_a_fault_has_its_path() -> None:
    text = encode(whole_way()[0].step).replace(b'"kind":"attach-volume"', b'"kind":"detach-volume"')
    with pytest.raises(msgspec.ValidationError, match=r"detach-volume.*\$\.action"):
        decode(text, Step)
    with pytest.raises(msgspec.ValidationError, match=r"Expected `str`.*\$\.reason"):
        decode(encode(whole_way()[0].step).replace(b'"reason":"', b'"reason":1,"x":"'), Step)


def test_every_kind_of_action_has_a_name_of_its_own() -> None:
    assert len(kinds()) == len(set(kinds().values())) >= 14
