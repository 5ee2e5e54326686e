"""The report of a round or a dry run, as text and as JSON, of volumes that are not taken."""

from __future__ import annotations

import json

from protokube.report.json import as_json
from protokube.report.text import as_text
from tests.rounds.process import Process
from tests.rounds.world import World


def test_a_dry_run_shows_what_others_hold_with_the_holder() -> None:
    world = World()
    world.volume("vol-1", "a/a,b,c")
    world.volume("vol-2", "b/a,b,c")
    world.volume("vol-3", "c/a,b,c", zone="z2", holder="n3")
    here, there = world.node("n1"), world.node("n2")
    world.node("n3").zone = "z2"
    world.attach(there, world.volumes["vol-2"], "/dev/xvdu")

    report = Process(world, here).dry_run()

    assert json.loads(as_json(report))["held"] == [
        {"subject": "vol-2", "holder": "n2", "zone": "z1"},
        {"subject": "vol-3", "holder": "n3", "zone": "z2"},
    ]
    text = as_text(report, planned=True)
    assert "vol-2 is in use by n2" in text
    assert "vol-3 is in use by n3: zone z2, this node is in z1" in text
    assert world.volumes["vol-1"].holder is None


def test_who_misses_a_volume_is_told_where_it_went() -> None:
    world = World()
    world.volume("vol-away", "a/a", zone="z2")
    world.volume("vol-typo", "a/a").tags["KubernetesCluster"] = "C.example.com"

    text = as_text(Process(world, world.node("n1")).rounds(), planned=False)

    assert "vol-away: zone z2, this node is in z1" in text
    assert "belongs to other clusters: 'C.example.com' (vol-typo)" in text
