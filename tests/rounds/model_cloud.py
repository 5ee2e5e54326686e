"""The model of a cloud beside a strict EC2: two nodes that take, tag and lose volumes see the same on both."""

from __future__ import annotations

import random
from pathlib import Path

from protokube.core.model import GIB, Unknown
from protokube.core.volumes.model import AttachState
from protokube.errors import ProviderError
from protokube.ports import CloudProvider
from tests.contract.aws_backend import AwsBackend
from tests.rounds.machine import Cloud
from tests.rounds.process import Process
from tests.rounds.world import World

NODES = ("node-a", "node-b")
VOLUMES = ("main-a", "main-b")
STEPS = 12
_LOOKS = 50
_FEW = 6

Shown = dict[str, tuple[set[tuple[str, AttachState]], bool, dict[str, str]]]


class _Both:
    def __init__(self, aws: AwsBackend) -> None:
        self.aws = aws
        self.world = World(attach_looks=2, tool_looks=0)
        for name in VOLUMES:
            self.world.volume(name, "a/a,b").size = GIB
        self.model = {name: Cloud(Process(self.world, self.world.node(name))) for name in NODES}
        self._names = {self._instance(name): name for name in NODES}

    def _instance(self, name: str) -> str:
        found = self.aws.node(name).snapshot(volumes=False).instance
        assert not isinstance(found, Unknown), found.reason
        return found.id

    def clouds(self, node: str) -> tuple[CloudProvider, Cloud]:
        """The real one and the model, as a node sees them."""
        return self.aws.node(node), self.model[node]

    def differs(self) -> str:
        """What the nodes see differently, when nothing is on its way any more."""
        for node in NODES:
            real, model = self.clouds(node)
            ids = {self.aws.volume_id(name): name for name in VOLUMES}
            one, other = settled(real, ids, self._names), settled(model, {}, {})
            if one != other:
                return f"{node} sees {one}, in the model {other}"
        return ""

    def attach(self, node: str, volume: str) -> str:
        """AttachVolume; says when the answers differ."""
        real, model = self.clouds(node)
        one, other = _outcome(real, "attach", self.aws.volume_id(volume)), _outcome(model, "attach", volume)
        return "" if one == other else f"the answers are {one} and {other}"

    def tag(self, node: str, volume: str, value: str) -> str:
        """CreateTags."""
        real, model = self.clouds(node)
        words = "protokube.k8s.io/filesystem", value
        one, other = _outcome(real, "tag", self.aws.volume_id(volume), *words), _outcome(model, "tag", volume, *words)
        return "" if one == other else f"the answers are {one} and {other}"

    def detach(self, volume: str) -> str:
        """What an operator does."""
        self.aws.detach(volume)
        self.world.detach(self.world.volumes[volume])
        return ""


def _outcome(cloud: CloudProvider | Cloud, call: str, *words: str) -> str:
    try:
        getattr(cloud, call)(*words)
    except ProviderError as error:
        return type(error).__name__
    return "done"


def settled(cloud: CloudProvider | Cloud, ids: dict[str, str], names: dict[str, str]) -> Shown:
    """Look until nothing is under way; holders, availability and tags by the volume's name."""
    for look in range(_LOOKS):
        found = cloud.snapshot(volumes=True).volumes
        assert not isinstance(found, Unknown), found.reason
        # What was ours a moment ago stays unconfirmed for a while; it is looked at a few times.
        states = {attachment.state for one in found for attachment in one.attachments}
        if AttachState.ATTACHING in states or (AttachState.UNCONFIRMED in states and look < _FEW):
            continue
        return {
            ids.get(one.id, one.id): (
                {(names.get(held.instance, held.instance), held.state) for held in one.attachments},
                one.available,
                {key: value for key, value in one.tags.items() if key.startswith("protokube")},
            )
            for one in found
        }
    raise AssertionError("attaches for ever")


def differs(seed: int, folder: Path) -> str:
    """Run one sequence; says at which step the two differ."""
    pick = random.Random(seed)
    aws = AwsBackend(folder)
    try:
        both = _Both(aws)
        way, trouble = ["a look"], both.differs()
        for _ in range(STEPS):
            if trouble:
                return f"after {', '.join(way)}: {trouble}"
            node, volume = pick.choice(NODES), pick.choice(VOLUMES)
            holder = both.world.volumes[volume].holder
            holds = {one.id for one in both.world.held(both.world.nodes[node])}
            if holder is not None and pick.random() < 0.3:
                way.append(f"{volume} is detached")
                trouble = both.detach(volume)
            elif volume in holds:
                way.append(f"{node} tags {volume}")
                trouble = both.tag(node, volume, f"fs-{pick.randint(1, 3)}")
            elif not holds:  # nobody takes two volumes of one etcd cluster
                way.append(f"{node} takes {volume}")
                trouble = both.attach(node, volume)
            trouble = trouble or both.differs()
        return ""
    finally:
        aws.close()
