"""A disk or an attachment that never comes: said, without end to the reconcile, and used once it comes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protokube.core.volumes.tracking import DEADLINE
from tests.rounds.process import Process
from tests.rounds.world import World

NEVER = 10**6


@pytest.mark.parametrize(
    ("lacks", "rule"), [({"appear_looks": NEVER}, "volume/no-disk"), ({"attach_looks": NEVER}, "volume/attach-stuck")]
)
def test_what_never_comes_is_refused_and_used_when_it_comes(lacks: dict[str, int], rule: str) -> None:
    world = World(**lacks)
    stuck = world.volume("vol-1", "a/a")
    node = world.node("n1")
    process = Process(world, node)
    for _ in range(3):
        report = process.round()
    assert report.in_flight and not report.left.refusals

    known = process.memory.history.attachments
    since, when = known.since["vol-1"]
    past = replace(known, since={"vol-1": (since, when - DEADLINE)})
    process.memory.history = replace(process.memory.history, attachments=past)
    report = process.round()
    assert [(one.subject, one.rule) for one in report.left.refusals] == [("vol-1", rule)]
    assert not report.in_flight and not report.converged, "--once ends with it"

    stuck.appears = stuck.attaching = 0
    report = process.rounds()
    assert report.left.refusals == [] and node.mounts == {"/mnt/master-vol-1": "vol-1"}
