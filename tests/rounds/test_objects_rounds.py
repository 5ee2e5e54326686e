"""A control-plane node's own certificates, its kubelet, and the objects of its API server, in whole reconciles."""

from __future__ import annotations

import pytest

from protokube.core.kubelet.paths import KUBECONFIG_PATH
from protokube.core.node.model import File
from protokube.core.objects.model import BOOTSTRAPPERS, CERTIFICATE, ObjectKey
from protokube.core.objects.requests import CLIENT, Request, RequestNames
from protokube.errors import ProviderError
from protokube.observe.later import OBJECTS_EVERY
from protokube.reconcile import Cause
from tests.rounds.process import Process, node_config, survive
from tests.rounds.world import Node, World

CONFIG = node_config(control_plane=True, store_shared=True, etcd_tls="auto")
NODE = ObjectKey("v1", "Node", "n0")


@pytest.fixture
def world() -> World:
    world = World()
    world.volume("vol-ma", "a/a")
    world.volume("vol-ea", "a/a", "events")
    return world


@pytest.fixture
def node(world: World) -> Node:
    return world.node("n0")


def applied(process: Process) -> int:
    return process.effects.count("apply-object")


def test_kubelet_gets_its_identity_and_then_the_objects_follow(world: World, node: Node) -> None:
    process = Process(world, node, CONFIG)
    report = process.rounds()
    assert {"kubelet", "kubelet-server", CERTIFICATE} <= node.certificates.keys()
    assert isinstance(node.files[KUBECONFIG_PATH], File) and node.kubelet_runs
    assert [one.subject for one in report.left.waiting] == ["API server"] and applied(process) == 0

    node.api_down = None
    report = process.rounds()
    assert [one.subject for one in report.left.waiting] == ["Node n0"]
    assert world.objects and NODE not in world.objects, "kubelet makes the node"

    world.objects[NODE] = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n0", "labels": {"mine": "kept"}}}
    assert process.rounds().converged


def test_a_converged_node_asks_its_api_server_every_few_minutes(world: World, node: Node) -> None:
    node.api_down = None
    world.objects[NODE] = {"metadata": {"name": "n0", "labels": {}}}
    process = Process(world, node, CONFIG)
    assert process.rounds().converged
    asked, done = process.reads["objects"], applied(process)
    for _ in range(3):
        assert process.round().converged
    assert process.reads["objects"] == asked

    gone = next(key for key in world.objects if key.kind == "ClusterRoleBinding")
    del world.objects[gone]
    process.observer.started -= OBJECTS_EVERY + 1
    assert process.rounds().converged
    assert gone in world.objects and applied(process) == done + 1

    del world.objects[gone]
    process.round(Cause.PERSON)
    assert gone in world.objects, "a person's signal reads everything"


def test_an_api_server_in_trouble_stops_nothing_else(world: World, node: Node) -> None:
    process = Process(world, node, CONFIG)
    process.broken["objects"] = ProviderError("GET https://127.0.0.1:6443/readyz: no answer within 10 s")
    report = process.rounds()
    assert [(one.subject, "no answer" in one.reason) for one in report.left.waiting] == [("API server", True)]
    assert node.kubelet_runs


def test_killed_at_every_effect_it_ends_in_the_same_place() -> None:
    def scene() -> tuple[World, Node]:
        world = World()
        world.volume("vol-ma", "a/a")
        world.volume("vol-ea", "a/a", "events")
        node = world.node("n0")
        node.api_down = None
        world.objects[NODE] = {"metadata": {"name": "n0", "labels": {}}}
        return world, node

    world, node = scene()
    whole = Process(world, node, CONFIG)
    assert whole.rounds().converged
    for number in range(1, len(whole.effects) + 1):
        for when in ("before", "after"):
            again, other = scene()
            process = Process(again, other, CONFIG, kill=(number, when))
            survive(process, process.rounds)
            assert Process(again, other, CONFIG).rounds().converged
            assert again.objects == world.objects


def test_a_kubelets_request_is_decided_when_it_comes(world: World, node: Node) -> None:
    node.api_down = None
    world.objects[NODE] = {"metadata": {"name": "n0", "labels": {}}}
    for name, address in (("w1", "10.0.9.1"), ("w2", "fd00::1")):
        world.objects[ObjectKey("v1", "Node", name)] = {"status": {"addresses": [{"address": address}]}}
    process = Process(world, node, CONFIG)
    assert process.rounds().converged
    user, usages = "system:node:w1", ("digital signature", "server auth")
    good = Request(
        "good", user, ("system:nodes",), usages, RequestNames(user, ("system:nodes",), ("w1",), ("10.0.9.1",))
    )
    bad = Request("bad", user, ("system:nodes",), usages, RequestNames(user, ("system:masters",), ("w1",)))
    early = Request(
        "early",
        "system:node:n9",
        ("system:nodes",),
        usages,
        RequestNames("system:node:n9", ("system:nodes",), ("n9",)),
    )
    thief = Request(
        "thief",
        "system:node:n0",
        ("system:nodes",),
        usages,
        RequestNames("system:node:n0", ("system:nodes",), ("n0",)),
    )
    world.requests = {one.name: one for one in (good, bad, early, thief)}
    assert process.round().converged and not world.decided, "nothing was heard of them"

    node.asked_for = True
    report = process.round()
    assert world.decided == {"good": True, "bad": False, "thief": False}, "n0 is a name of the API server"
    assert [one.subject for one in report.left.waiting] == ["request early"]
    assert any(step.step.action.describe().startswith("deny the request bad") for step in report.steps)


def test_a_stolen_token_makes_no_other_node(world: World, node: Node) -> None:
    node.api_down = None
    world.objects[NODE] = {"metadata": {"name": "n0", "labels": {}}}
    world.objects[ObjectKey("v1", "Node", "w1")] = {"metadata": {"name": "w1"}}
    world.node("n9"), world.volume("vol-mb", "b/a,b", holder="n9")
    world.tokens = {"aaaaaa": "", "bbbbbb": "w1"}
    process = Process(world, node, CONFIG)
    process.rounds()

    def asks(name: str, token: str, as_node: str) -> None:
        names = RequestNames(f"system:node:{as_node}", ("system:nodes",))
        groups, usages = (BOOTSTRAPPERS, "system:bootstrappers"), ("digital signature", "client auth")
        world.requests[name] = Request(name, f"system:bootstrap:{token}", groups, usages, names, CLIENT, name)

    asks("new", "aaaaaa", "w2")
    asks("existing", "aaaaaa", "w1")
    asks("this one", "aaaaaa", "n0")
    asks("another of the control plane", "aaaaaa", "n9")
    asks("back", "bbbbbb", "w1")
    asks("other than told", "bbbbbb", "w3")
    asks("ended", "cccccc", "w4")
    node.asked_for = True
    process.round()
    assert {name for name, approved in world.decided.items() if approved} == {"new", "back"}
    assert len(world.decided) == 7
