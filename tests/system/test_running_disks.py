"""A mounted member volume of a running node that fails: the next reconcile says so, and destroys nothing.

The node's other volume goes on. When the disk is back the node is served again, or the report says what a human must
do. A disk that answers nothing at all: tests/system/test_daemon.py.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.lab.disks import FaultDisk
from tests.lab.trial import TrialNode, tags, until, volume, write_inventory

pytestmark = [pytest.mark.root, pytest.mark.slow]

EXT4_IOC_SHUTDOWN = 0x8004587D
"""_IOR('X', 125, __u32), from the kernel's include/uapi/linux/ext4.h."""
NO_LOG_FLUSH = 2
TARGET = "/mnt/master-main-a"
LINKS = ("etcd.manifest", "etcd-events.manifest")


@pytest.fixture
def fault(tmp_path: Path) -> Iterator[FaultDisk]:
    with FaultDisk(tmp_path / "fault") as fault:
        yield fault


@pytest.fixture
def node(tmp_path: Path, fault: FaultDisk) -> Iterator[TrialNode]:
    """A node in service: main on the disk that can be made to fail, events on an image."""
    device = {"id": "main-a", "device": fault.device, "size": "64MiB", "tags": tags("main", "a/a")}
    inventory = write_inventory(tmp_path, device, volume("events-a", "events", "a/a"))
    with TrialNode(tmp_path / "a", inventory) as node:
        try:
            assert node.report()["exit"] == 0
            node.path(f"{TARGET}/var/etcd/data/precious").write_text("kept")
            os.sync()
            yield node
        finally:
            with suppress(AssertionError):
                fault.mode("healthy")
            node.power_cut()


def write(node: TrialNode) -> int:
    """Write on the volume as etcd does; the error's number."""
    try:
        fd = os.open(node.path(f"{TARGET}/var/etcd/data/wal"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, b"x" * 65536)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        return error.errno or -1
    return 0


def fails(node: TrialNode, fault: FaultDisk) -> None:
    fault.mode("badwrite")
    assert write(node) == errno.EIO
    until("ext4 gives up", lambda: write(node) == errno.EROFS)


def answers_nothing_but_errors(node: TrialNode, fault: FaultDisk) -> None:
    fault.mode("dead")
    assert write(node) == errno.EIO
    until("ext4 gives up", lambda: write(node) == errno.EROFS)


def is_shut_down(node: TrialNode, _: FaultDisk) -> None:
    fd = os.open(node.path(TARGET), os.O_RDONLY)
    try:
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(fd)
    assert write(node) == errno.EIO


TROUBLES: dict[str, tuple[Callable[[TrialNode, FaultDisk], None], str]] = {
    "fails": (fails, "read-only"),
    "answers errors": (answers_nothing_but_errors, "read-only"),
    "is shut down": (is_shut_down, "the kernel shut the filesystem down"),
}


def links(node: TrialNode) -> list[str]:
    folder = node.root / "etc/kubernetes/manifests"
    return sorted(path.name for path in folder.iterdir() if path.is_symlink())


def refused(report: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["subject"]: (one["rule"], one["evidence"]) for one in report["refusals"]}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_disk_that_fails_while_it_is_mounted(node: TrialNode, fault: FaultDisk, trouble: str) -> None:
    """What helps is said: here a restart of the machine, which checks the filesystem."""
    happens, evidence = TROUBLES[trouble]
    happens(node, fault)

    report = node.report()

    rule, said = refused(report)["main-a"]
    assert rule == "volume/unhealthy" and evidence in said
    assert report["exit"] == 1 and set(refused(report)) == {"main-a"}
    assert report["steps"] == [] and links(node) == sorted(LINKS)
    again = node.report()
    assert refused(again) == refused(report) and again["steps"] == []

    fault.mode("healthy")
    node.power_cut()
    node.power_on()
    back = node.report()
    assert back["exit"] == 0 and back["refusals"] == [], back
    assert "format" not in {step["action"] for step in back["steps"]}
    assert node.path(f"{TARGET}/var/etcd/data/precious").read_text() == "kept"
    assert write(node) == 0 and links(node) == sorted(LINKS)


def test_a_disk_that_is_yanked_and_plugged_in_again(tmp_path: Path) -> None:
    """The export below the device is killed; it comes back as another device under the disk's own path."""
    by_id = tmp_path / "by-id"
    with FaultDisk(tmp_path / "fault") as fault:
        by_id.symlink_to(fault.device)
        device = {"id": "main-a", "device": str(by_id), "size": "64MiB", "tags": tags("main", "a/a")}
        inventory = write_inventory(tmp_path, device, volume("events-a", "events", "a/a"))
        with TrialNode(tmp_path / "a", inventory) as node:
            assert node.report()["exit"] == 0
            node.path(f"{TARGET}/var/etcd/data/precious").write_text("kept")
            os.sync()

            fault.yank()
            assert write(node) == errno.EIO
            until("ext4 gives up", lambda: write(node) == errno.EROFS)
            report = node.report()
            assert refused(report)["main-a"] == ("volume/unhealthy", f"{TARGET}: the filesystem is mounted read-only")
            assert (report["exit"], report["steps"], links(node)) == (1, [], sorted(LINKS))

            node.power_cut()
            node.power_on()
            away = node.report()
            rule, said = refused(away)["main-a"]
            assert (away["exit"], rule) == (1, "format/not-blank") and "Input/output error" in said, said
            assert links(node) == ["etcd-events.manifest"], "the other volume is served"
            assert {step["action"] for step in away["steps"] if step["subject"] == "main-a"} == set()

            fault.plug()
            by_id.unlink()
            by_id.symlink_to(fault.device)
            back = node.report()
            assert (back["exit"], back["refusals"], back["unknown"]) == (0, [], [])
            assert "format" not in {step["action"] for step in back["steps"]}
            assert node.path(f"{TARGET}/var/etcd/data/precious").read_text() == "kept"
            assert write(node) == 0 and links(node) == sorted(LINKS)


def test_a_volume_that_goes_read_only_and_comes_back(node: TrialNode) -> None:
    def remount(how: str) -> None:
        done = node.run("mount", "-o", f"remount,{how}", f"{node.root}{TARGET}")
        assert done.returncode == 0, done.stderr

    remount("ro")
    rule, said = refused(node.report())["main-a"]
    assert rule == "volume/unhealthy" and "read-only" in said and links(node) == sorted(LINKS)
    remount("rw")
    back = node.report()
    assert (back["exit"], back["refusals"], back["steps"]) == (0, [], [])


def fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 1024)


def test_a_volume_that_is_full(node: TrialNode) -> None:
    """Nothing is written to a converged node's volume. What must be written fails by name, and is done later."""
    ballast = node.path(f"{TARGET}/var/etcd/data/ballast")
    fill(ballast)
    assert node.report()["exit"] == 0

    manifest = node.path(f"{TARGET}/k8s.io/manifests/etcd.manifest")
    before = manifest.read_text()
    manifest.write_text("")
    fill(ballast)
    report = node.report()
    failed = [step for step in report["steps"] if step["status"] == "failed"]
    assert report["exit"] == 1 and failed, report["steps"]
    assert {step["subject"] for step in failed} == {f"{TARGET}/k8s.io/manifests/etcd.manifest"}
    assert all("No space left" in step["error"] for step in failed)

    ballast.unlink()
    assert node.report()["exit"] == 0
    assert manifest.read_text().partition("spec:")[0] == before.partition("spec:")[0]
