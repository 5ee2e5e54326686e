"""Addon channels in whole reconciles: applied once, pruned, by one node at a time, wherever the daemon is killed."""

from __future__ import annotations

import pytest

from protokube.core.objects.channels import record_key
from protokube.core.objects.model import Manifest, ObjectKey, key_of
from protokube.observe.later import OBJECTS_EVERY
from tests.rounds.process import Process, node_config, survive
from tests.rounds.world import Node, World

CONFIG = node_config(control_plane=True, store_shared=True, etcd_tls="auto")


def config(name: str, value: str = "1") -> Manifest:
    metadata = {"name": name, "namespace": "x"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"v": value}}


def scene() -> tuple[World, Node]:
    world = World()
    world.volume("vol-ma", "a/a")
    world.volume("vol-ea", "a/a", "events")
    node = world.node("n0")
    node.api_down = None
    world.objects[ObjectKey("v1", "Node", "n0")] = {"metadata": {"name": "n0", "labels": {}}}
    world.channels = {"core": (config("one"), config("two"))}
    return world, node


def looks_again(process: Process) -> None:
    process.observer.started -= OBJECTS_EVERY + 1


def test_a_channel_is_applied_and_then_nothing_is_written() -> None:
    world, node = scene()
    process = Process(world, node, CONFIG)
    assert process.rounds().converged
    assert {key_of(config("one")), key_of(config("two")), record_key("core")} <= world.objects.keys()
    done = len(process.effects)
    looks_again(process)
    asked = process.reads["objects"]
    assert process.rounds().converged and len(process.effects) == done and process.reads["objects"] > asked


def test_what_the_channel_has_no_more_goes_and_a_stranger_of_its_kind_stays() -> None:
    world, node = scene()
    process = Process(world, node, CONFIG)
    process.rounds()
    stranger = key_of(config("stranger"))
    world.objects[stranger] = config("stranger")
    world.channels = {"core": (config("one", "2"),)}
    looks_again(process)
    assert process.rounds().converged
    assert key_of(config("two")) not in world.objects and stranger in world.objects
    assert world.objects[key_of(config("one"))]["data"] == {"v": "2"}


def test_while_another_node_applies_this_one_waits() -> None:
    world, node = scene()
    world.lease = "n9"
    process = Process(world, node, CONFIG)
    report = process.rounds()
    assert [one.reason for one in report.left.waiting] == ["n9 applies them"]
    assert record_key("core") not in world.objects


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_of_its_effects_nothing_is_left_that_no_record_names(when: str) -> None:
    world, node = scene()
    whole = Process(world, node, CONFIG)
    whole.rounds()
    first = next(number for number, one in enumerate(whole.effects, 1) if one == "take-lease")
    for number in range(first, len(whole.effects) + 1):
        world, node = scene()
        killed = Process(world, node, CONFIG, kill=(number, when))
        survive(killed, killed.rounds)
        world.channels = {"core": (config("three"),)}
        assert Process(world, node, CONFIG).rounds().converged
        assert not {key_of(config("one")), key_of(config("two"))} & world.objects.keys()
