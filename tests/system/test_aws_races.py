"""Masters that race for the volumes of one zone on a strict EC2, with daemons killed and machines switched off."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab.aws_node import AwsNode, AwsRegion
from tests.lab.trial import until
from tests.lab.unit_node import LINKS, UNIT

pytestmark = [pytest.mark.root, pytest.mark.slow]

LIMIT = 120.0
MEMBERS = "abcde"


class Race:
    """`masters` nodes and as many members, one volume each of `main` and `events`."""

    def __init__(self, region: AwsRegion, masters: int, seed: int) -> None:
        self.region = region
        self.random = random.Random(seed)
        region.ec2.attaching_looks = self.random.randint(0, 2)
        region.late = self.random.uniform(0.0, 0.5)
        names = ",".join(MEMBERS[:masters])
        self.cluster_of = {
            region.volume(key, f"{me}/{names}"): key for me in MEMBERS[:masters] for key in ("main", "events")
        }
        self.nodes = [region.node(nitro=self.random.random() < 0.5) for _ in range(masters)]

    def start(self, node: AwsNode) -> None:
        """The daemon, as boot starts it; nobody waits for its first reconcile."""
        node.run("systemctl", "start", "--no-block", UNIT)

    def disturb(self) -> None:
        """Kill a daemon, or cut a machine's power and switch it on again."""
        node = self.random.choice(self.nodes)
        if self.random.random() < 0.8:
            node.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", UNIT, check=False)
            return
        node.kill()
        node.start()
        self.start(node)

    def check(self) -> None:
        """What must hold at any moment."""
        for node in self.nodes:
            for name in node.links():
                target = node.path(f"/etc/kubernetes/manifests/{name}").readlink()
                volume_id = next(part for part in target.parts if part.startswith("master-")).removeprefix("master-")
                assert volume_id in self.region.held(node.instance_id), f"{node.name}: {name} leads to {target}"
            held = Counter(self.cluster_of[one] for one in self.region.held(node.instance_id))
            assert max(held.values(), default=0) <= 1, f"{node.name} holds {held}"

    def finished(self) -> bool:
        """Whether every node has one volume of each etcd cluster, mounted and linked, and kubelet runs."""
        return all(
            len(self.region.held(node.instance_id)) == len(LINKS)
            and {f"/mnt/master-{one}" for one in self.region.held(node.instance_id)} == node.mounts().keys()
            and node.links() == set(LINKS)
            and node.show("ActiveState", "kubelet.service") == "active"
            for node in self.nodes
        )


@pytest.mark.parametrize(("seed", "masters"), [(1, 2), (2, 3), (3, 5), (4, 3), (5, 2)])
def test_every_volume_ends_on_exactly_one_node(tmp_path: Path, seed: int, masters: int) -> None:
    with AwsRegion(tmp_path) as region, ExitStack() as running:
        race = Race(region, masters, seed)
        for node in race.nodes:
            running.enter_context(node)
        for node in race.nodes:
            race.start(node)
        for _ in range(masters * 2):
            told = race.random.choice(("attach ", "format ", "mount ", "link "))
            node = race.random.choice(race.nodes)
            _wait_a_little(node, told)
            race.disturb()
            race.check()

        def finished() -> bool:
            race.check()
            return race.finished()

        try:
            until("every node has its volumes", finished, LIMIT)
        except AssertionError as still:
            logs = "\n".join(f"--- {node.name}\n{node.journal(UNIT)}" for node in race.nodes)
            raise AssertionError(f"{still}\n{logs}") from None
        holders = {volume_id: region.ec2.holder(volume_id) for volume_id in race.cluster_of}
        assert Counter(holders.values()) == {node.instance_id: len(LINKS) for node in race.nodes}
        assert all("refused" not in node.journal(UNIT) for node in race.nodes)
        attached = [
            call.parameters["VolumeId"]
            for call in region.ec2.calls
            if call.operation == "AttachVolume" and not call.error
        ]
        assert Counter(attached) == dict.fromkeys(race.cluster_of, 1)


def _wait_a_little(node: AwsNode, words: str) -> None:
    """Until the daemon says so the next time, or not at all."""
    command = node.command(
        "timeout", "0.3", "sh", "-c", f"journalctl -f -n 0 -o cat -u {UNIT} | grep -q -m 1 '{words}'"
    )
    subprocess.run(command, check=False, capture_output=True, timeout=10)
