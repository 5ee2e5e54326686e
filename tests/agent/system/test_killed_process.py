"""The agent is killed before each of its effects, with containers as its children: same end, never two of one."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protokube.agent.runtimes.ownroot import inhabitants, label
from tests.agent.system.killed import ENDED, Lives
from tests.lab.trial import CHECKOUT

pytestmark = pytest.mark.root

LIMIT = 120.0
HOLDS = 'flock -n -E 99 /data/$0 sleep 1000; test $? != 99 || echo "two of $0" >>/data/two'
"""Holds a lock for its life, as etcd does with its data: a second one of the name says so."""


def pod(name: str, version: int, **spec: Any) -> dict[str, Any]:
    """One of a name that there may never be two of."""
    mounts = [{"name": "data", "mountPath": "/data"}, {"name": "scratch", "mountPath": "/scratch"}]
    main = {"name": "c", "image": "host", "command": ["sh", "-c", HOLDS, name], "volumeMounts": mounts}
    volumes = [
        {"name": "data", "hostPath": {"path": "/data", "type": "Directory"}},
        {"name": "scratch", "emptyDir": {}},
    ]
    whole = {
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 5,
        "containers": [main],
        "volumes": volumes,
        **spec,
    }
    metadata = {"name": name, "labels": {"version": str(version)}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole}


INIT = {"name": "i", "image": "host", "command": ["true"]}


class Machine:
    """Its root, and two worlds that its manifests may want: they differ in a pod's content, and in two pods."""

    def __init__(self, base: Path) -> None:
        self.root = base / "root"
        self.manifests = self.root / "etc/kubernetes/manifests"
        self.manifests.mkdir(parents=True)
        (self.root / "data").mkdir()
        arguments = ["--standalone", "--provider", "process", "--root", str(self.root), "--nodename", "n"]
        self._log = (base / "log").open("wb")
        self.lives = Lives(
            [sys.executable, "-m", "tests.agent.system.killed", *arguments], cwd=CHECKOUT, stderr=self._log
        )
        self.log = base / "log"

    def want(self, world: int) -> None:
        """Write the manifests, in one step each."""
        pods = {"etcd.json": pod("etcd", world), "same.json": pod("same", 0)}
        pods["odd.json" if world % 2 else "even.json"] = pod("other", world, initContainers=[INIT])
        for name, content in pods.items():
            (self.manifests / f".{name}").write_text(json.dumps(content))
            (self.manifests / f".{name}").rename(self.manifests / name)
        for path in self.manifests.glob("*.json"):
            if path.name not in pods:
                path.unlink()

    def reached(self, world: int) -> bool:
        """Whether that world is there: reports and records of its pods alone, and every container runs once."""
        reports = self._read("run/protokube/agent/pods")
        if reports is None or len(reports) != 3:
            return False
        versions = {one["metadata"]["name"]: one["metadata"]["labels"]["version"] for one in reports}
        if versions != {"etcd-n": str(world), "same-n": "0", "other-n": str(world)}:
            return False
        if any(one["status"]["phase"] != "Running" for one in reports):
            return False
        uids = {one["metadata"]["uid"] for one in reports}
        kept = {path.stem for path in (self.root / "var/lib/protokube/agent/pods").glob("[!.]*")}
        scratch = {path.name for path in (self.root / "var/lib/protokube/agent/volumes").iterdir()}
        return uids == kept == scratch and self.holders() == ["etcd", "other", "same"]

    def holders(self) -> list[str]:
        """The names of the containers that hold their locks."""
        found = []
        for pid in inhabitants(label(self.root / "run/protokube/agent/containers")):
            try:
                argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            except OSError:
                continue
            if argv[0] == "flock":
                found.append(Path(argv[4]).name)
        return sorted(found)

    def until_reached(self, world: int) -> str | None:
        """Wait until that world is there, or until the agent is killed: then at which effect."""
        end = time.monotonic() + LIMIT
        while not self.reached(world):
            if (effect := self.lives.died()) is not None:
                return effect
            assert time.monotonic() < end, self.log.read_text()[-4000:]
        return None

    def close(self) -> None:
        self.lives.close()
        self._log.close()

    def _read(self, folder: str) -> list[Any] | None:
        try:
            return [json.loads(path.read_text()) for path in (self.root / folder).glob("[!.]*")]
        except FileNotFoundError:
            return None


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    try:
        yield machine
    finally:
        machine.close()


def test_killed_before_every_effect_it_ends_in_the_same_place(machine: Machine) -> None:
    """A pod replaced by one of its name, one left alone, one removed, and one new with an init container."""
    machine.want(0)
    machine.lives.begin()
    assert machine.until_reached(0) is None
    assert machine.lives.end() == ENDED
    effects: list[str] = []
    while True:
        world = len(effects) + 1
        machine.want(world)
        machine.lives.begin(kill=True)
        effect = machine.until_reached(world)
        if effect is None:
            break
        effects.append(effect)
        machine.lives.begin()
        assert machine.until_reached(world) is None, effect
        assert machine.lives.end() == ENDED
        assert not (machine.root / "data/two").exists(), effect
    assert machine.lives.end() == ENDED
    kinds = {one.rpartition(" #")[0] for one in effects}
    assert kinds >= {"container", "container started", "os.rename .*.json.new", "os.remove *.json"}, effects
