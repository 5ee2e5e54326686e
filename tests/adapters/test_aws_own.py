"""How often EC2 is asked about this very instance, and what tags that come late or change do."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from protokube.cloudprovider.aws.ec2 import InstanceFacts, instance
from protokube.cloudprovider.aws.own import SOON, TAGS_COME_WITHIN, YOUNG, OwnInstance
from protokube.errors import ProviderError

CLUSTER = {"KubernetesCluster": "c.example.com"}
GROUP = {"k8s.io/instance-group": "masters"}
MINUTE, HOUR, DAY = 60, 3600, 86400


@dataclass
class World:
    """EC2's answer, a clock that a test moves, and when EC2 was asked."""

    tags: dict[str, str]
    cluster_id: str | None = None
    failing: bool = False
    now: float = 1000.0
    asked: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.own = OwnInstance(self.ask, self.cluster_id, clock=lambda: self.now)

    def ask(self) -> InstanceFacts:
        self.asked.append(self.now - 1000.0)
        if self.failing:
            raise ProviderError("RequestLimitExceeded")
        tags = [{"Key": key, "Value": value} for key, value in self.tags.items()]
        devices = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeId": "vol-root"}}]
        told = {"InstanceId": "i-1", "State": {"Name": "running"}, "Tags": tags, "BlockDeviceMappings": devices}
        return instance(told)

    def live(self, seconds: float, every: float = 10.0) -> None:
        """Ask what is known, as reconciles do."""
        end = self.now + seconds
        while self.now < end:
            self.own.facts()
            self.now += every

    def group(self) -> str | None:
        return self.own.facts().tags.get("k8s.io/instance-group")


def test_with_all_its_tags_there_it_is_asked_for_once() -> None:
    world = World(CLUSTER | GROUP)
    world.live(DAY)
    assert world.asked == [0.0]


@pytest.mark.parametrize("cluster_id", [None, "c.example.com"])
def test_without_a_group_the_questions_grow_rare_and_end(cluster_id: str | None) -> None:
    """Not every instance has a group; one that gets its tags gets them when it starts."""
    world = World(CLUSTER if cluster_id is None else {}, cluster_id)
    world.live(7 * DAY, every=30.0)
    assert world.asked == [SOON * (2**number - 1) for number in range(8)]
    assert world.asked[-2] < TAGS_COME_WITHIN <= world.asked[-1]


@pytest.mark.parametrize("cluster_id", [None, "c.example.com"])
@pytest.mark.parametrize("late", [20, 5 * MINUTE, 30 * MINUTE])
def test_a_group_that_comes_late_is_seen_and_kept(late: float, cluster_id: str | None) -> None:
    world = World(dict(CLUSTER), cluster_id)
    world.live(late)
    assert world.group() is None
    world.tags |= GROUP
    world.live(2 * late + SOON)
    assert world.group() == "masters"
    asked = len(world.asked)
    world.live(DAY)
    assert len(world.asked) == asked


def test_the_first_mapping_is_young_for_a_while_and_later_ones_are_not() -> None:
    world = World(CLUSTER | GROUP)
    assert world.own.mapping() == ({}, False)
    assert world.asked == []
    world.own.facts()
    assert world.own.mapping() == ({"/dev/xvda": "vol-root"}, True)
    world.now += YOUNG
    assert world.own.mapping()[1]
    world.now += 1
    assert world.own.mapping() == ({"/dev/xvda": "vol-root"}, False)
    world.own.look_again()
    world.own.facts()
    assert not world.own.mapping()[1]


def test_a_question_that_fails_costs_no_knowledge() -> None:
    world = World(dict(CLUSTER))
    assert world.group() is None
    world.failing = True
    world.live(HOUR)
    assert len(world.asked) > 3
    world.failing = False
    world.tags |= GROUP
    world.live(2 * SOON)
    assert world.group() == "masters"


@pytest.mark.parametrize(
    "tags", [{"KubernetesCluster": "other.example.com"}, {**CLUSTER, "kubernetes.io/cluster/other": "shared"}, {}]
)
def test_a_running_node_changes_its_cluster_for_no_tag(tags: dict[str, str]) -> None:
    world = World(dict(CLUSTER))
    world.own.facts()
    world.tags = {**tags, **GROUP}
    world.live(HOUR)
    assert world.own.facts().tags == CLUSTER


def test_what_has_changed_is_asked_for_at_once_and_once() -> None:
    world = World(CLUSTER | GROUP)
    world.own.facts()
    world.own.look_again()
    world.live(DAY)
    assert world.asked == [0.0, 0.0]


def test_what_has_changed_is_asked_for_again_when_the_question_fails() -> None:
    world = World(CLUSTER | GROUP)
    world.own.facts()
    world.own.look_again()
    world.failing = True
    world.live(20)
    world.failing = False
    world.live(DAY)
    assert world.asked == [0.0, 0.0, SOON]


def test_until_the_cluster_is_named_every_question_is_a_call() -> None:
    world = World(dict(GROUP))
    for _ in range(3):
        with pytest.raises(ProviderError, match="no tag KubernetesCluster"):
            world.own.facts()
    world.tags |= CLUSTER
    world.live(DAY)
    assert len(world.asked) == 4


BAD_NAMES = [
    "Bad Name/..",
    "c.example.com.",
    "C.example.com",
    "c..example.com",
    " c",
    "../etc",
    "a_b",
    "a." * 127 + "aa",
]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("spelling", ["KubernetesCluster={}", "kubernetes.io/cluster/{}"])
def test_a_cluster_name_that_is_no_dns_name_is_refused(name: str, spelling: str) -> None:
    tag = spelling.format(name)
    key, _, value = tag.partition("=")
    with pytest.raises(ProviderError) as caught:
        World({key: value or "owned"}).own.facts()
    for said in (repr(tag), repr(name), "a DNS name in lower case", "--cluster-id"):
        assert said in str(caught.value)
    assert World({key: value or "owned"}, cluster_id="c.example.com").own.facts()
