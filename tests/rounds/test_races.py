"""Two, three and five masters race for the volumes of one zone, killed at every action, in 200 seeded orders."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from protokube.core.steps import Step
from protokube.reconcile import Cause
from tests.rounds.process import Process
from tests.rounds.world import Node, World

MEMBERS = "abcde"


class Race:
    """Masters whose actions are interleaved one by one, as the seed says."""

    def __init__(self, masters: int, members: int, seed: int) -> None:
        self.random = random.Random(seed)
        pick = self.random.randint
        self.world = World(
            attach_looks=pick(0, 2), stale_looks=pick(0, 2), appear_looks=pick(0, 2), tool_looks=pick(0, 2)
        )
        names = ",".join(MEMBERS[:members])
        self.pristine = pristine = self.random.choice((True, None))
        for me in MEMBERS[:members]:
            self.world.volume(f"vol-m{me}", f"{me}/{names}", pristine=pristine)
            self.world.volume(f"vol-e{me}", f"{me}/{names}", "events", pristine=pristine)
        self.nodes = [self.world.node(f"n{number}") for number in range(masters)]
        self.lives: dict[str, tuple[Process, Iterator[Step]]] = {}

    def shuffled(self, steps: list[Step]) -> list[Step]:
        return self.random.sample(steps, len(steps))

    def start(self, node: Node) -> None:
        process = Process(self.world, node)
        self.lives[node.name] = process, process.steps(self.shuffled)

    def run(self, actions: int) -> None:
        """So many actions, with kills, reboots and etcd's own life between them."""
        self.world.trouble = lambda: self.random.choice((None, None, None, "throttled", "lost"))
        self.world.hides = lambda: self.random.random() < 0.05
        self.world.lacks = lambda: self.random.random() < 0.05
        for node in self.nodes:
            self.start(node)
        for _ in range(actions):
            node = self.random.choice(self.nodes)
            event = self.random.random()
            if event < 0.06:
                self.start(node)  # killed between two effects
                continue
            if event < 0.08:
                self.world.reboot(node)
                self.start(node)
                continue
            if event < 0.3:
                self.world.etcd.tick()
            if next(self.lives[node.name][1], None) is None:
                process = self.lives[node.name][0]
                self.lives[node.name] = process, process.steps(self.shuffled)
            self.check()

    def finish(self) -> None:
        """Everybody comes to rest, in turns; the cloud is as it should be."""
        self.world.trouble = lambda: None
        self.world.hides = self.world.lacks = lambda: False
        for _ in range(60):
            for node in self.nodes:
                self.lives[node.name][0].round(Cause.NODE)
            self.check()
            reports = [self.lives[node.name][0].round() for node in self.nodes]
            self.world.etcd.tick()
            self.check()
            if not any(report.steps or report.in_flight for report in reports):
                return
            if not any(report.steps for report in reports):
                self.world.age(61)  # names of members that nobody holds are not waited for any longer
        raise AssertionError([(report.steps, report.left) for report in reports])

    def check(self) -> None:
        """What must hold at any moment. (That no node takes two of one cluster, the world itself sees to.)"""
        assert not self.world.etcd.violations
        for node in self.nodes:
            held = {volume.id for volume in self.world.held(node)}
            for path, target in self.world.links(node).items():
                volume_id = target.split("/")[2].removeprefix("master-")
                assert volume_id in held, f"{node.name}: {path} leads to {target}, which it doesn't hold"


@pytest.mark.parametrize("seed", range(200))
def test_every_volume_ends_on_one_node(seed: int) -> None:
    masters = (2, 3, 5)[seed % 3]
    members = (1, 2, 3, 5)[seed // 3 % 4]
    race = Race(masters, members, seed)
    race.run(masters * 30)
    race.finish()
    world = race.world
    taken = min(masters, members)
    for prefix in ("vol-m", "vol-e"):
        holders = [volume.holder for id_, volume in world.volumes.items() if id_.startswith(prefix) and volume.holder]
        assert len(holders) == len(set(holders)) == taken
    for node in race.nodes:
        assert len(world.links(node)) in (0, 2)
        assert node.kubelet_runs or len(world.held(node)) == 0 or taken < members
    if taken == members or (race.pristine and taken > members // 2):
        assert world.etcd.write("etcd", "hello")
        assert world.etcd.write("etcd-events", "hello")
