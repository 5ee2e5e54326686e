"""etcd runs from the manifest that protokube wrote, with its environment, paths and ports and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.cluster import LIMIT, acknowledged, etcd_pid, healthy, run, value
from tests.lab.trial import ETCD_IMAGE, FOR_ETCD, TrialNode, both, until, write_inventory

pytestmark = pytest.mark.root

MAIN = "/mnt/master-main-a"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TrialNode]:
    inventory = write_inventory(tmp_path, *both(size=FOR_ETCD))
    with TrialNode(tmp_path / "a", inventory, options=("--etcd-image", ETCD_IMAGE)) as node:
        yield node


def manifest(node: TrialNode) -> Path:
    return node.path(f"{MAIN}/k8s.io/manifests/etcd.manifest")


def identity(node: TrialNode, volume: str = "main-a") -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(node.path(f"/mnt/master-{volume}/k8s.io/identity.yaml").read_text())
    return found


def remembered(tmp_path: Path, volume: str = "main-a") -> dict[str, str]:
    tags: dict[str, str] = json.loads((tmp_path / f"volumes/{volume}.img.state").read_text())["tags"]
    return tags


def test_it_runs_with_what_the_manifest_says_and_nothing_else(node: TrialNode) -> None:
    assert node.once().returncode == 0
    node.start_pods()
    until("both are healthy", lambda: healthy(node), LIMIT)
    container = yaml.safe_load(manifest(node).read_text())["spec"]["containers"][0]

    pid = etcd_pid(node)
    environment = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    wanted = {f"{item['name']}={item['value']}" for item in container["env"]}
    assert {one for one in environment if not one.startswith("PATH=")} == wanted
    ports = {port["containerPort"] for port in container["ports"]}
    listening = node.run("ss", "-Hltnp").stdout.splitlines()
    assert {int(line.split()[3].rpartition(":")[2]) for line in listening if f"pid={pid}," in line} == ports
    inside = Path(f"/proc/{pid}/root")
    for mount in container["volumeMounts"]:
        assert os.path.samestat(
            (inside / mount["mountPath"].lstrip("/")).stat(),
            node.path("/etc/hosts" if mount["name"] == "hosts" else f"{MAIN}/var/etcd/data").stat(),
        )
    assert not (inside / "mnt").exists()


def test_what_etcd_did_is_remembered_and_outlives_everything(node: TrialNode, tmp_path: Path) -> None:
    run(node)
    until("both are healthy", lambda: healthy(node), LIMIT)
    acknowledged(node, "kept", "for ever")
    acknowledged(node, "kept", "as well", port=4002)
    for volume in ("main-a", "events-a"):
        until(f"{volume}'s identity knows", lambda: identity(node, volume)["started"], LIMIT)
        until(
            f"{volume}'s tags know",
            lambda: remembered(tmp_path, volume).get("protokube.k8s.io/etcd-bootstrapped") == "true",
            LIMIT,
        )
    assert identity(node)["etcdVersion"] == "3.4.23"
    text, written = manifest(node).read_text(), manifest(node).stat().st_mtime_ns
    assert "value: new" in text
    pid = etcd_pid(node)
    assert "ended" not in node.log("pods.log")

    node.power_cut()
    node.power_on()
    run(node)

    until("both are healthy again", lambda: healthy(node), LIMIT)
    assert (value(node, "kept"), value(node, "kept", port=4002)) == ("for ever", "as well")
    assert etcd_pid(node) != pid
    # kubelet (here: static pods) may run the member, so the initial state stays as it was at first.
    assert (manifest(node).read_text(), manifest(node).stat().st_mtime_ns) == (text, written)


def test_a_second_run_beside_a_running_etcd_has_nothing_to_do(node: TrialNode) -> None:
    assert node.once().returncode == 0
    node.start_pods()
    until("both are healthy", lambda: healthy(node), LIMIT)

    first = node.report()

    assert first["exit"] == 0, first
    kinds = {"write-file", "tag-volume"}
    assert {step["action"] for step in first["steps"]} == kinds
    assert not any(step["subject"].endswith(".manifest") for step in first["steps"])
    second = node.report()
    assert (second["exit"], second["steps"], second["settled"]) == (0, [], True)
    assert "ended" not in node.log("pods.log")
