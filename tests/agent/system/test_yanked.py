"""A member's disk answers with errors alone, and is there again later: its etcd ends and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.system.etcds import Watched
from tests.agent.system.test_protokube_node import EtcdNode
from tests.lab.disks import FaultDisk
from tests.lab.trial import FOR_ETCD, both, tags

pytestmark = pytest.mark.root

SIZE = 256 << 20


@pytest.fixture
def fault(tmp_path: Path) -> Iterator[FaultDisk]:
    with FaultDisk(tmp_path / "fault", SIZE) as fault:
        yield fault


@pytest.fixture
def node(tmp_path: Path, fault: FaultDisk) -> Iterator[EtcdNode]:
    main = {"id": "main-a", "device": fault.device, "size": FOR_ETCD, "tags": tags("main", "a/a")}
    _, events = both(size=FOR_ETCD)
    node = EtcdNode(tmp_path, "systemd", main, events, devices=[fault.device])
    node.persist()
    try:
        with node:
            node.up()
            yield node
    finally:
        fault.mode("healthy")
        node.close()


def restarts(node: EtcdNode) -> int:
    """How often main's etcd was restarted, as the agent reports it."""
    (pod,) = [one for one in node.reports() if one["metadata"]["name"] == "etcd-server-node-a"]
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def test_a_disk_that_is_yanked_and_is_there_again(node: EtcdNode, fault: FaultDisk) -> None:
    node.put("kept")
    watched = Watched(node.path("/proc"))
    before = watched.pids()
    (other,) = [pid for name, pid in before.items() if "events" in name]
    with watched.watching():
        fault.mode("dead")
        node.write_once("lost")
        node.until("etcd has given up", lambda: not set(before.values()) - {other} & set(watched.pids().values()))
        node.until("it is tried again", lambda: restarts(node) >= 1)
        assert not node.healthy()

        # A filesystem that has seen such errors is dead until it is let go of and checked: someone does the first.
        fault.mode("healthy")
        (target,) = [one for one in node.mounts() if "main" in one]
        node.run("umount", "--lazy", target)
        node.run("systemctl", "restart", "protokube.service")
        node.until("etcd serves", node.healthy)
    assert node.get() == "kept"
    assert watched.twice == set() and other in watched.pids().values()
