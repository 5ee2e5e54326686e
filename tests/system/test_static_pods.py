"""The stand-in for kubelet is as strict as kubelet in what the tests rely on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.static_pods import StaticPods, read_pod

pytestmark = pytest.mark.root


def manifest(script: str, **spec: Any) -> str:
    """A pod with etcd's shape whose command is a shell script."""
    container = {
        "name": "c",
        "image": "none",
        "command": ["sh", "-c", script],
        "env": [{"name": "COLOUR", "value": "deep blue"}],
        "ports": [{"name": "clientport", "containerPort": 4001, "hostPort": 4001}],
        "volumeMounts": [
            {"name": "data", "mountPath": "/var/data"},
            {"name": "hosts", "mountPath": "/etc/hosts", "readOnly": True},
        ],
    }
    volumes = [
        {"name": "data", "hostPath": {"path": "/mnt/data", "type": "Directory"}},
        {"name": "hosts", "hostPath": {"path": "/etc/hosts", "type": "File"}},
    ]
    whole = {"hostNetwork": True, "containers": [container], "volumes": volumes, **spec}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": whole})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "mnt/data").mkdir(parents=True)
    (root / "etc/kubernetes/manifests").mkdir(parents=True)
    (root / "etc/hosts").write_text("10.0.0.1 there\n")
    return root


@pytest.fixture
def pods(root: Path, tmp_path: Path) -> Iterator[StaticPods]:
    with StaticPods(root, work=tmp_path / "work") as pods:
        yield pods


def place(root: Path, text: str) -> Path:
    path = root / "etc/kubernetes/manifests/p.manifest"
    path.write_text(text)
    return path


def until(pods: StaticPods, holds: Callable[[], bool]) -> None:
    """Look at the folder until something holds; the limit only ends a test that has failed."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, pods.log("p")
        pods.sync()
        time.sleep(0.02)


def test_a_pod_has_its_environment_its_mounts_and_nothing_else(root: Path, pods: StaticPods) -> None:
    place(root, manifest("env | sort; cat /etc/hosts; ls -A / /etc /var; echo kept > /var/data/file; sleep 600"))
    until(pods, lambda: (root / "mnt/data/file").exists())
    said = pods.log("p")
    assert "COLOUR=deep blue\n" in said
    assert "HOME=" not in said
    assert "10.0.0.1 there\n" in said
    assert "passwd" not in said
    assert "tmp" not in said.split("\n")


def test_a_read_only_mount_can_be_read_and_follows_the_file(root: Path, pods: StaticPods) -> None:
    place(
        root,
        manifest("echo no > /etc/hosts; until grep -q moved /etc/hosts; do sleep 0.05; done; echo seen; sleep 600"),
    )
    until(pods, lambda: "Read-only file system" in pods.log("p") if pods.running else False)
    with (root / "etc/hosts").open("r+") as hosts:
        hosts.write("10.0.0.2 moved\n")
    until(pods, lambda: "seen\n" in pods.log("p"))


def test_a_missing_host_path_keeps_a_pod_from_running(root: Path, pods: StaticPods) -> None:
    (root / "mnt/data").rmdir()
    place(root, manifest("echo runs; sleep 600"))
    until(pods, lambda: bool(pods.running) and "no hostPath of type Directory" in pods.log("p"))
    (root / "mnt/data").mkdir()
    until(pods, lambda: "runs\n" in pods.log("p"))


def test_a_changed_manifest_restarts_its_pod_and_a_removed_one_ends_it(root: Path, pods: StaticPods) -> None:
    path = place(root, manifest("echo first; exec sleep 600"))
    until(pods, lambda: bool(pods.running) and "first" in pods.log("p"))
    first = pods.running["p"].process
    pods.sync()
    assert first.poll() is None
    place(root, manifest("echo second; exec sleep 600"))
    until(pods, lambda: "second" in pods.log("p"))
    second = pods.running["p"].process
    assert first.poll() is not None
    path.unlink()
    pods.sync()
    assert second.poll() is not None
    assert pods.running == {}


def test_a_link_that_dangles_and_a_dot_file_are_no_pods(root: Path, pods: StaticPods) -> None:
    folder = root / "etc/kubernetes/manifests"
    (folder / "a.manifest").symlink_to("../nowhere")
    (folder / ".b.manifest").write_text(manifest("sleep 600"))
    pods.sync()
    assert pods.running == {}


def test_a_pod_that_exits_is_started_again(root: Path, pods: StaticPods) -> None:
    place(root, manifest("echo again >> /var/data/count"))
    count = root / "mnt/data/count"
    until(pods, lambda: count.exists() and count.read_text().count("again") >= 2)


@pytest.mark.parametrize("spec", [{"hostNetwork": False}, {"containers": []}])
def test_what_would_run_differently_here_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        read_pod(manifest("true", **spec))
