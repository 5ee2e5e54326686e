"""The agent is killed before each of its effects, beside the etcd of a real protokube node: never two of one member.

The manifest of one member changes again and again; the other member is never touched.
"""

from __future__ import annotations

import json
import time

import pytest
import yaml

from tests.agent.system.etcds import Watched
from tests.agent.system.killed import ENDED, Lives
from tests.agent.system.test_protokube_node import LINK, EtcdNode, node
from tests.lab import inside
from tests.lab.agent_node import UNIT

pytestmark = pytest.mark.root

LIMIT = 120.0
__all__ = ["node"]  # a fixture


class Changes:
    """The lives of agents on a node, and the versions of one member's manifest that they are to bring about."""

    def __init__(self, node: EtcdNode) -> None:
        self._node = node
        self._manifest = yaml.safe_load(node.run("cat", LINK).stdout)
        self._reports = node.path("/run/protokube/agent/pods")
        self.watched = Watched(node.path("/proc"))
        program = (
            f"cd {inside.CHECKOUT} && exec {inside.PYTHON} -m tests.agent.system.killed --standalone --provider $0"
        )
        self.lives = Lives(node.command("sh", "-c", program, node.provider))

    def want(self, version: int) -> None:
        """Change the manifest, in one step."""
        self._manifest["metadata"]["labels"]["version"] = str(version)
        replace = f"at=$(readlink -f {LINK}) && cat >$at.new && mv $at.new $at"
        self._node.run("sh", "-c", replace, stdin=yaml.safe_dump(self._manifest))

    def until(self, version: int) -> str | None:
        """Wait until that version runs beside the other member; when the agent is killed before, at which effect."""
        end = time.monotonic() + LIMIT
        while not self._reached(version):
            if (effect := self.lives.died()) is not None:
                return effect
            assert time.monotonic() < end, self._node.run("virtual-kubelet", "pods").stdout
        return None

    def _reached(self, version: int) -> bool:
        try:
            reports = [json.loads(path.read_text()) for path in self._reports.glob("[!.]*")]
        except FileNotFoundError:
            return False  # it has just been removed
        versions = {one["metadata"]["labels"].get("version") for one in reports}
        running = [one for one in reports if one["status"]["phase"] == "Running"]
        ours = versions == {None, str(version)} and len(reports) == len(running) == 2
        return ours and len(self.watched.pids()) == 2


def test_killed_before_every_effect_there_are_never_two_etcds(node: EtcdNode) -> None:
    node.put("kept")
    node.run("systemctl", "stop", "protokube.service", UNIT)
    changes = Changes(node)
    (other,) = [pid for name, pid in changes.watched.pids().items() if "events" in name]
    effects: list[str] = []
    try:
        with changes.watched.watching():
            while True:
                version = len(effects) + 1
                changes.want(version)
                changes.lives.begin(kill=True)
                effect = changes.until(version)
                if effect is None:
                    break
                effects.append(effect)
                changes.lives.begin()
                assert changes.until(version) is None, effect
                assert changes.lives.end() == ENDED
                assert changes.watched.twice == set(), effect
                assert other in changes.watched.pids().values(), effect
            assert changes.lives.end() == ENDED
    finally:
        changes.lives.close()
    node.until("etcd serves", node.healthy)
    assert node.get() == "kept" and changes.watched.twice == set()
    wanted = {"systemd": {"StartTransientUnit answered", "StopUnit answered"}, "podman": {"podman run ended"}}
    assert {one.rpartition(" #")[0] for one in effects} >= wanted[node.provider], effects
