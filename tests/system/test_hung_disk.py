"""A disk that answers nothing: --once and --dry-run say soon which one, and go on with the others.

Disks hang here for seconds only: whoever lists the machine's loop devices by `losetup -j` hangs with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.disks import FaultDisk
from tests.lab.trial import TrialNode, tags, until, volume, write_inventory

pytestmark = [pytest.mark.root, pytest.mark.slow]

EVENTS = "/mnt/master-events-a"
EVENTS_LINK = "etc/kubernetes/manifests/etcd-events.manifest"


@pytest.fixture
def fault(tmp_path: Path) -> Iterator[FaultDisk]:
    with FaultDisk(tmp_path / "fault") as fault:
        yield fault


@pytest.fixture
def node(tmp_path: Path, fault: FaultDisk) -> Iterator[TrialNode]:
    """A node with main on the disk that can hang, and events on an image."""
    device = {"id": "main-a", "device": fault.device, "size": "64MiB", "tags": tags("main", "a/a")}
    inventory = write_inventory(tmp_path, device, volume("events-a", "events", "a/a"))
    with TrialNode(tmp_path / "a", inventory) as node:
        try:
            yield node
        finally:
            fault.hang(False)  # the kernel lets nobody go who waits for a disk
            node.power_cut()


def hang(fault: FaultDisk) -> None:
    fault.hang()
    for _ in range(3):  # what was used lately survives the first time
        Path("/proc/sys/vm/drop_caches").write_text("3\n")


def test_once_names_a_disk_that_hangs_and_goes_on_with_the_others(node: TrialNode, fault: FaultDisk) -> None:
    hang(fault)
    process = node.spawn("said.log", *node.arguments("--once"))
    until("the disk is named", lambda: "the disk of main-a: no answer for 5 s" in node.log("said.log"))
    until("the other one is served", (node.root / EVENTS_LINK).is_symlink)
    assert node.path(EVENTS).is_mount() and "taken:" not in node.log("said.log"), "the report comes at the end"
    until("what keeps it is said", lambda: "main-a: the disk does not answer: process " in node.log("said.log"))
    assert "W not converged after " in node.log("said.log")

    fault.hang(False)

    assert process.wait(120) == 0, node.log("said.log")
    assert node.path("/mnt/master-main-a").is_mount()


def test_a_dry_run_names_a_disk_that_hangs(node: TrialNode, fault: FaultDisk) -> None:
    hang(fault)
    process = node.spawn("said.log", *node.arguments("--dry-run"))
    until("the disk is named", lambda: "the disk of main-a: no answer for 5 s" in node.log("said.log"))
    fault.hang(False)
    assert process.wait(120) == 0 and "Nothing was changed." in node.log("said.log")


def test_a_mounted_disk_that_hangs_is_named(node: TrialNode, fault: FaultDisk) -> None:
    assert node.report()["exit"] == 0
    node.power_cut()
    node.power_on()
    assert node.report()["exit"] == 0  # nothing is written there any more, so that what is cached can be dropped
    hang(fault)
    process = node.spawn("said.log", *node.arguments("--once"))
    until("the volume is named", lambda: "reading main-a: no answer for 5 s" in node.log("said.log"))
    fault.hang(False)
    assert process.wait(120) == 0, node.log("said.log")
