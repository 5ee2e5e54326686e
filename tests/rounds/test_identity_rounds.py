"""kubelet's identity on a control-plane node stands still while it can't be read, and names the right API server."""

from __future__ import annotations

import pytest

from protokube.core.kubelet.identity import CLIENT, SERVING
from protokube.core.kubelet.paths import ARGS_PATH, CONFIG_PATH, KUBECONFIG_PATH
from protokube.core.model import Unknown
from protokube.core.node.model import File, UnitState
from protokube.core.objects.model import ObjectKey
from protokube.errors import ProviderError
from tests.rounds.process import Process, node_config
from tests.rounds.test_control_plane_rounds import configured, linked, master, rounds
from tests.rounds.world import Node, World

CONFIG = node_config(control_plane=True, store_shared=True, etcd_tls="auto")


def text(node: Node, path: str) -> str:
    state = node.files[path]
    assert isinstance(state, File) and state.text is not None
    return state.text


def converged(world: World) -> tuple[Node, Process]:
    world.volume("vol-ma", "a/a")
    world.volume("vol-ea", "a/a", "events")
    node = world.node("n0")
    node.api_down = None
    world.objects[ObjectKey("v1", "Node", "n0")] = {"metadata": {"name": "n0", "labels": {}}}
    process = Process(world, node, CONFIG)
    assert process.rounds().converged
    assert "tlsCertFile" in text(node, CONFIG_PATH)
    return node, process


def standing(node: Node) -> dict[str, str]:
    return {path: text(node, path) for path in (ARGS_PATH, CONFIG_PATH, KUBECONFIG_PATH)}


@pytest.mark.parametrize("what", ["directory", CLIENT, SERVING, "volumes"])
def test_files_stand_still_while_certificates_are_unknown(what: str) -> None:
    world = World()
    node, process = converged(world)
    before, certificates, effects = standing(node), dict(node.certificates), len(process.effects)
    if what in certificates:
        node.certificates[what] = Unknown("input/output error")
    elif what == "volumes":
        process.broken["volumes"] = ProviderError("the cloud is silent")
    else:
        process.broken["certificates"] = ProviderError("input/output error")
    for again in (process, Process(world, node, CONFIG)):
        again.broken = process.broken
        world.age(5)
        report = again.round()
        assert standing(node) == before
        assert not report.left.converged and not {"write", "restart"} & set(again.effects[effects:])
        effects = 0
    node.certificates.update(certificates)
    process.broken.clear()
    world.age(5)
    done = len(process.effects)
    assert process.rounds().converged
    assert standing(node) == before and len(process.effects) == done, "nothing is restarted when they are read again"


def test_a_kubelet_that_is_down_starts_with_the_files_that_stand() -> None:
    world = World()
    node, process = converged(world)
    files = standing(node)
    node.unit = UnitState("loaded", "inactive", "dead")
    process = Process(world, node, CONFIG)
    process.broken["certificates"] = ProviderError("input/output error")
    rounds(process)
    assert node.kubelet_runs and standing(node) == files


def test_an_address_that_changes_while_the_store_is_down_takes_no_identity_away() -> None:
    world = World()
    node, _ = converged(world)
    node.address = "10.0.0.77"
    process = Process(world, node, CONFIG)
    process.broken["authorities"] = ProviderError("the store is down")
    rounds(process)
    assert "tlsCertFile" in text(node, CONFIG_PATH) and "clientCAFile" in text(node, CONFIG_PATH)
    assert "--kubeconfig" in text(node, ARGS_PATH)


def test_a_standby_talks_to_the_others_api_server_and_converges() -> None:
    world = World()
    first = master(world)
    rounds(Process(world, first, configured()))
    standby = world.node("n2")
    process = Process(world, standby, configured())
    process.rounds()
    world.age(61)
    report = process.rounds()
    assert "https://api.internal." in text(standby, KUBECONFIG_PATH)
    assert "127.0.0.1" not in text(standby, KUBECONFIG_PATH)
    assert process.reads.get("objects", 0) == 0, "no API server here can be asked"
    assert linked(standby) == {"kube-proxy"} and report.converged, report
