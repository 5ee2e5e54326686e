"""etcd of a real protokube node under the agent on a real systemd: never two of one member, and back in the end."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.agent_node import FILES, UNIT
from tests.lab.podman import PODMAN_FILES, make_image
from tests.lab.trial import ETCD_IMAGE, FOR_ETCD, both, write_inventory
from tests.lab.unit_node import LOOPS, UnitNode

pytestmark = pytest.mark.root

LINK = "/etc/kubernetes/manifests/etcd.manifest"


class EtcdNode(UnitNode):
    """protokube and the agent on one machine. Every look counts the etcds of a member: two are a failure."""

    def __init__(self, base: Path, provider: str, *volumes: Mapping[str, Any], devices: Sequence[str] = ()) -> None:
        self.provider = provider
        self._store = base / "store"
        write_inventory(self._store, *(volumes or both(size=FOR_ETCD)))
        config = {
            "cloud": "local",
            "inventory": "/store/inventory.yaml",
            "node": "node-a",
            "kubeletUnit": UNIT,
            "etcdImage": "host:3.4.23" if provider == "systemd" else ETCD_IMAGE,
        }
        binds = [*LOOPS, *(one for one in devices if one not in LOOPS), f"{self._store}:/store"]
        if provider == "systemd":
            super().__init__(base / "node", "node-a", config, files=FILES, binds=binds)
        else:
            files, binds = FILES | PODMAN_FILES, [*binds, "/dev/fuse"]
            super().__init__(base / "node", "node-a", config, files=files, binds=binds, seccomp=False, delegate=True)

    def etcds(self) -> list[str]:
        """The data directories of the etcds that run; never one of them twice."""
        found = []
        for pid in self.run("pgrep", "-x", "etcd", check=False).stdout.split():
            environ = self.run("cat", f"/proc/{pid}/environ", check=False).stdout
            found += re.findall(r"ETCD_DATA_DIR=([^\0]+)", environ)
        assert len(found) == len(set(found)), "two of one member"
        return sorted(found)

    def healthy(self) -> bool:
        """Whether main's etcd serves, with at most one etcd of each member."""
        self.etcds()
        asked = ("env", "ETCDCTL_API=3", "etcdctl", "--endpoints=http://127.0.0.1:4001", "--command-timeout=3s")
        return self.run(*asked, "get", "x", check=False).returncode == 0

    def put(self, value: str) -> None:
        asked = ("env", "ETCDCTL_API=3", "etcdctl", "--endpoints=http://127.0.0.1:4001", "put", "x", value)
        self.until(f"{value} is written", lambda: self.run(*asked, check=False).returncode == 0)

    def write_once(self, value: str) -> None:
        """Ask etcd once to write; it may fail."""
        asked = ("env", "ETCDCTL_API=3", "etcdctl", "--endpoints=http://127.0.0.1:4001", "--command-timeout=3s")
        self.run(*asked, "put", "y", value, check=False)

    def reports(self) -> list[dict[str, Any]]:
        """What the agent reports of its pods."""
        found: list[dict[str, Any]] = json.loads(self.run("virtual-kubelet", "pods", "-o", "json").stdout)
        return found

    def get(self) -> str:
        asked = ("env", "ETCDCTL_API=3", "etcdctl", "--endpoints=http://127.0.0.1:4001", "get", "x")
        return self.run(*asked, "--print-value-only", check=False).stdout.strip()

    def kill_agent(self) -> None:
        """SIGKILL for the agent's main process alone."""
        pid = self.show("MainPID", UNIT)
        if pid != "0":
            self.run("kill", "-KILL", pid, check=False)

    def up(self) -> None:
        if self.provider == "podman":
            make_image(self, ETCD_IMAGE, "/usr/bin/etcd")
        self.run("systemctl", "start", "protokube.service")
        self.until("etcd serves", self.healthy)
        self.until("both members run", lambda: len(self.etcds()) == 2)


@pytest.fixture(params=["systemd", "podman"])
def node(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[EtcdNode]:
    node = EtcdNode(tmp_path, request.param)
    node.persist()
    try:
        with node:
            node.up()
            yield node
    finally:
        node.close()


def test_a_manifest_that_changes_and_a_link_that_goes_and_comes_back(node: EtcdNode) -> None:
    node.put("kept")
    node.run("systemctl", "stop", "protokube.service")
    before = node.etcds()
    link = node.path(LINK)
    manifest = node.path("/") / os.readlink(link).lstrip("./")
    text = link.resolve().read_text() if link.resolve().exists() else manifest.read_text()
    pod = yaml.safe_load(text)
    pod["metadata"]["labels"]["changed"] = "yes"
    place = node.run("readlink", "-f", LINK).stdout.strip()
    node.run("tee", place, stdin=yaml.safe_dump(pod))
    node.until(
        "the new pod runs", lambda: '"changed": "yes"' in node.run("virtual-kubelet", "pods", "-o", "json").stdout
    )
    node.until("etcd serves", node.healthy)
    assert node.get() == "kept" and node.etcds() == before
    target = os.readlink(node.path(LINK))
    node.run("rm", LINK)
    node.until("main is gone", lambda: len(node.etcds()) == 1)
    node.run("ln", "-s", target, LINK)
    node.until("etcd serves", node.healthy)
    assert node.get() == "kept"


def test_an_agent_that_is_killed_again_and_again(node: EtcdNode) -> None:
    node.put("kept")
    for number in range(5):
        node.kill_agent()
        if number % 2:
            for pid in node.run("pgrep", "-x", "etcd", check=False).stdout.split():
                node.run("kill", "-KILL", pid, check=False)
        node.until("both members run", lambda: len(node.etcds()) == 2)
        node.until("etcd serves", node.healthy)
    assert node.get() == "kept"


def test_a_machine_that_is_switched_off_and_on(node: EtcdNode) -> None:
    node.put("kept")
    node.kill()
    node.start()
    node.up()
    assert node.get() == "kept"


def test_an_etcd_that_is_unmounted_under_its_feet_comes_back_with_its_volume(node: EtcdNode) -> None:
    """The volume goes, the manifest's link dangles: the pod ends; the volume comes back, and so does the pod."""
    node.put("kept")
    node.run("systemctl", "stop", "protokube.service")
    (target,) = [one for one in node.mounts() if "main" in one]
    node.run("umount", "--lazy", target)
    node.until("main is gone", lambda: len(node.etcds()) == 1)
    node.run("systemctl", "start", "protokube.service")
    node.until("etcd serves", node.healthy)
    assert node.get() == "kept"
