"""`protokube --once` and `--dry-run` from outside, on real disks."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.trial import TrialNode, both, until, volume, write_inventory

pytestmark = pytest.mark.root


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TrialNode]:
    with TrialNode(tmp_path / "a", write_inventory(tmp_path, *both())) as node:
        yield node


def changes(*folders: Path) -> dict[str, tuple[int, int]]:
    """Every inode below the folders with its change time, which any write to it moves."""
    found = {}
    for folder in folders:
        for place, _, names in os.walk(folder):
            for path in (place, *(os.path.join(place, name) for name in names)):
                state = os.lstat(path)
                found[path] = (state.st_ino, state.st_ctime_ns)
    return found


def test_a_bare_machine_becomes_a_node(node: TrialNode) -> None:
    report = node.report()

    assert report["exit"] == 0 and report["settled"], report
    steps = [(step["action"], step["subject"]) for step in report["steps"]]
    assert [subject for action, subject in steps if action == "attach-volume"] == ["main-a", "events-a"]
    for volume_id, cluster, label in (("main-a", "etcd", "etcd-a"), ("events-a", "etcd-events", "etcd-events-a")):
        mount = node.run("findmnt", "-no", "FSTYPE,OPTIONS,LABEL", f"{node.root}/mnt/master-{volume_id}").stdout
        assert mount.startswith("ext4") and mount.split()[-1] == label
        assert {"noatime", "nodev", "nosuid", "errors=remount-ro"} <= set(mount.split()[1].split(","))
        assert node.path(f"/mnt/master-{volume_id}").stat().st_mode & 0o777 in (0o750, 0o755)
        link = node.root / f"etc/kubernetes/manifests/{cluster}.manifest"
        assert link.is_symlink() and not os.path.isabs(os.readlink(link))
        pod = yaml.safe_load(node.path(f"/mnt/master-{volume_id}/k8s.io/manifests/{cluster}.manifest").read_text())
        assert (pod["apiVersion"], pod["kind"]) == ("v1", "Pod")
        identity = yaml.safe_load(node.path(f"/mnt/master-{volume_id}/k8s.io/identity.yaml").read_text())
        assert identity["volume"] == volume_id and identity["started"] is False
    hosts = (node.root / "etc/hosts").read_text()
    assert "10.1.2.3\tapi.internal.dev.example.com etcd-a.internal.dev.example.com" in hosts
    assert (node.root / "etc/sysconfig/kubelet").read_text().splitlines()[1].startswith('DAEMON_ARGS="--')
    assert yaml.safe_load((node.root / "var/lib/kubelet/config.yaml").read_text())["kind"] == "KubeletConfiguration"


def test_a_second_run_writes_not_one_byte(node: TrialNode, tmp_path: Path) -> None:
    assert node.once().returncode == 0
    folders = [
        node.path("/"),
        tmp_path / "volumes",
        *(node.path(f"/mnt/master-{one}") for one in ("main-a", "events-a")),
    ]
    before = changes(*folders)

    report = node.report()

    assert (report["exit"], report["steps"], report["settled"]) == (0, [], True)
    assert changes(*folders) == before


def test_on_a_converged_node_a_run_needs_no_event_loop(node: TrialNode) -> None:
    assert node.once().returncode == 0
    python, *arguments = node.arguments("--once")
    second = node.run(python, "-X", "importtime", *arguments)
    assert second.returncode == 0
    assert "protokube.reconcile" in second.stderr and "asyncio" not in second.stderr


def test_what_is_predicted_is_what_happens(node: TrialNode, tmp_path: Path) -> None:
    before = changes(tmp_path)
    plan = node.report("--dry-run")
    assert changes(tmp_path) == before
    assert plan["exit"] == 0 and {step["status"] for step in plan["steps"]} == {"planned"}
    assert any(step["depends"] == "the disk proves blank" for step in plan["steps"])
    assert node.run(*node.arguments("--dry-run", "--detailed-exitcode")).returncode == 2

    done = node.report()

    def shape(report: dict[str, Any]) -> list[tuple[str, str]]:
        return sorted(
            (step["action"], step["subject"].partition(":")[0])
            for step in report["steps"]
            if step["action"] != "change-records"
        )

    def records(report: dict[str, Any]) -> set[str]:
        steps = (step for step in report["steps"] if step["action"] == "change-records")
        return {line for step in steps for line in step["description"].split("; ")}

    assert shape(done) == shape(plan)
    assert records(done) == records(plan)
    assert node.run(*node.arguments("--dry-run", "--detailed-exitcode")).returncode == 0


def test_json_is_the_object_that_scripts_rely_on(node: TrialNode) -> None:
    report = node.report("--dry-run")
    assert set(report) - {"exit"} == {
        "version",
        "settled",
        "steps",
        "waiting",
        "refusals",
        "unknown",
        "held",
        "accepted",
        "notes",
    }
    assert report["version"] == 1
    always = {"pass", "action", "subject", "description", "reason", "depends", "status"}
    for step in report["steps"]:
        assert set(step) == always | ({"records"} if step["action"] == "change-records" else set())
    records = [record for step in report["steps"] for record in step.get("records", ())]
    address = {"type": "A", "before": [], "after": ["10.1.2.3"]}
    assert {"name": "etcd-a.internal.dev.example.com", **address} in records


def test_without_a_bus_the_node_does_not_converge_and_says_why(node: TrialNode) -> None:
    report = node.report("--kubelet-unit", "kubelet.service", "--interval", "1")  # which bounds its pauses
    assert report["exit"] == 1 and not report["settled"]
    assert [one["subject"] for one in report["unknown"]] == ["kubelet.service"]
    assert "run/dbus/system_bus_socket" in report["unknown"][0]["reason"]
    assert (node.root / "etc/kubernetes/manifests/etcd.manifest").is_symlink()


def test_a_second_protokube_names_the_first(node: TrialNode) -> None:
    daemon = node.start_daemon()
    until("the daemon holds its lock", (node.root / "run/protokube/lock").exists)
    until("it is converged", lambda: "converged" in node.log())
    second = node.once()
    assert second.returncode == 1
    assert "already runs on this root: pid" in second.stderr
    assert node.run(*node.arguments("--dry-run")).returncode == 0
    assert node.end(daemon) == 0


def test_manifests_of_a_lost_volume_are_unlinked_and_come_back(node: TrialNode) -> None:
    assert node.once().returncode == 0
    node.power_cut()
    link = node.root / "etc/kubernetes/manifests/etcd.manifest"
    assert link.is_symlink()
    node.power_on()

    report = node.report()

    assert report["exit"] == 0, report
    actions = [step["action"] for step in report["steps"]]
    assert "format-volume" not in actions
    assert actions.count("check-filesystem") == actions.count("mount-volume") == 2
    assert link.is_symlink() and node.path("/mnt/master-main-a/k8s.io/identity.yaml").exists()


def test_signals_of_the_daemon(node: TrialNode) -> None:
    daemon = node.start_daemon()
    until("it is converged", lambda: "I converged" in node.log())
    os.kill(daemon.pid, signal.SIGUSR1)
    until("it woke", lambda: "woken by SIGUSR1" in node.log())
    config = node.root / "etc/protokube/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("kubelet: {maxPods: 42}\nnonsense: 1\n")
    os.kill(daemon.pid, signal.SIGHUP)
    until("it refuses the configuration", lambda: "nonsense" in node.log())
    config.write_text("kubelet: {maxPods: 42}\n")
    os.kill(daemon.pid, signal.SIGHUP)
    text = node.root / "var/lib/kubelet/config.yaml"
    until("the new configuration is rendered", lambda: "maxPods: 42" in text.read_text())
    assert node.end(daemon) == 0


def test_a_grown_disk_gets_its_filesystem_grown(node: TrialNode, tmp_path: Path) -> None:
    assert node.once().returncode == 0
    node.power_cut()
    bigger = [volume(one["id"], name, "a/a", "512MiB") for one, name in zip(both(), ("main", "events"), strict=True)]
    for one in bigger:
        os.truncate(tmp_path / one["file"], 512 << 20)
    write_inventory(tmp_path, *bigger)
    node.power_on()

    report = node.report()

    assert report["exit"] == 0, report
    assert [step["action"] for step in report["steps"]].count("grow-filesystem") == 2
    size = int(node.run("findmnt", "-bno", "SIZE", f"{node.root}/mnt/master-main-a").stdout)
    assert size > 400 << 20


def test_json_and_text_say_the_same(node: TrialNode) -> None:
    plan = node.report("--dry-run")
    text = node.run(*node.arguments("--dry-run")).stdout
    for step in plan["steps"]:
        if step["action"] != "change-records":
            assert step["description"] in text
    assert json.dumps(plan)
