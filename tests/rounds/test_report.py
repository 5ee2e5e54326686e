"""The report of a reconcile or a dry run, as text and as JSON."""

from __future__ import annotations

import json

from protokube.report.json import as_json
from protokube.report.text import as_text
from tests.rounds.process import Process
from tests.rounds.world import CLUSTER, World


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


def test_json_lists_the_hints_of_the_text_report_as_notes() -> None:
    world = World()
    world.volume("vol-1", "a/a")

    report = Process(world, world.node("n1")).dry_run()

    notes = json.loads(as_json(report))["notes"]
    assert any(note.startswith("kubelet: kubeReserved") for note in notes), notes
    shown = as_text(report, planned=True).partition("Good to know:\n")[2]
    assert all(f"  {note}\n" in shown for note in notes)


def test_json_lists_the_records_of_the_step_that_changes_them_and_of_no_other() -> None:
    world = World()
    world.volume("vol-1", "a/a")
    node = world.node("n1")
    Process(world, node).rounds()
    before, node.address = node.address, "10.0.0.99"

    steps = json.loads(as_json(Process(world, node).round()))["steps"]

    changes = [step for step in steps if step["action"] == "change-records"]
    listed = [record for step in changes for record in step["records"]]
    member = {"name": f"etcd-a.internal.{CLUSTER}", "type": "A", "before": [before], "after": [node.address]}
    assert member in listed, listed
    assert {step["status"] for step in changes} == {"done"}
    assert not any("records" in step for step in steps if step not in changes)


def test_a_lost_race_is_no_failure_of_a_converged_node() -> None:
    world = World(attach_looks=0)
    volume = world.volume("vol-1", "a/a,b")
    node, other = world.node("n1"), world.node("n2")
    process = Process(world, node)

    def win() -> None:
        if volume.holder is None:
            world.attach(other, volume, "/dev/xvdu")

    process.hooks["attach"] = win
    lost = json.loads(as_json(process.round()))
    (step,) = [step for step in lost["steps"] if step["subject"] == "vol-1"]
    assert (step["action"], step["status"]) == ("attach-volume", "lost")
    assert step["error"] == "vol-1 is already attached to an instance"
    assert not any(one["status"] == "failed" for one in lost["steps"])

    report = process.rounds()
    assert json.loads(as_json(report))["settled"] is True
    assert json.loads(as_json(report))["held"] == [{"subject": "vol-1", "holder": "n2", "zone": "z1"}]
