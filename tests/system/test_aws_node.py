"""Bare instances become nodes: real systemd, IMDSv2, a strict EC2, and disks that appear after AttachVolume."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.aws_node import AwsNode, AwsRegion, Machine
from tests.lab.trial import until
from tests.lab.unit_node import LINKS, SAW, UNIT

pytestmark = pytest.mark.root

LATE = 2.0


@pytest.fixture
def region(tmp_path: Path) -> Iterator[AwsRegion]:
    with AwsRegion(tmp_path) as region:
        yield region


def asleep(node: AwsNode) -> None:
    """Wait until the daemon has just gone to sleep for a while, so that what happens now is what wakes it."""

    def last_line() -> str:
        return (node.journal(UNIT).splitlines() or [""])[-1]

    before = last_line()
    seen = [before]

    def holds() -> bool:
        seen.append(last_line())
        told = re.match(r"next reconcile in ([\d.]+) s", seen[-1])
        # Twice the same: what the reconcile itself has changed wakes it once more, at once. And more than the second
        # that follows a reconcile which did something: a tool that this one began may end as the disk appears.
        return before != seen[-1] == seen[-2] and told is not None and float(told[1]) > 1.0

    until("the daemon sleeps", holds)


def assert_it_is_a_node(node: AwsNode, *volumes: str) -> None:
    assert node.mounts() == {f"/mnt/master-{one}": node.appeared[one] for one in volumes}
    assert node.links() == set(LINKS)
    assert node.show("ActiveState", "kubelet.service") == "active"
    assert len(node.path(SAW).read_text().splitlines()) == len(LINKS), "the manifests stood before kubelet started"


@pytest.mark.parametrize("nitro", [True, False], ids=["nvme-by-serial", "xen-by-name"])
def test_a_bare_instance_becomes_a_node_when_its_disks_appear(region: AwsRegion, nitro: bool) -> None:
    volumes = [region.volume("main"), region.volume("events")]
    kubelets_before: list[int] = []

    def ready(node: Machine) -> None:
        assert isinstance(node, AwsNode)
        asleep(node)
        kubelets_before.append(len(node.kubelets()))

    region.late, region.ready = LATE, ready
    with region.node(nitro=nitro) as node:
        node.bring_up()

        assert_it_is_a_node(node, *volumes)
        assert kubelets_before == [0, 0]
        assert region.held(node.instance_id).keys() == set(volumes)
        names = re.compile(r"/dev/nvme\dn1" if nitro else r"/dev/xvd[uv]")
        woken = {volume_id: node.woken_for(volume_id) for volume_id in node.appeared}
        for volume_id, device in node.appeared.items():
            assert names.fullmatch(device)
            # What appears while the other disk is worked on may be found in the reconcile that the tool's end begins.
            assert re.search(r"/dev/\S+ changed|the tool at work", woken[volume_id]), node.journal(UNIT)
        first, device = next(iter(node.appeared.items()))
        assert f"{device} changed" in woken[first], node.journal(UNIT)
        (kubelet,) = node.kubelets()
        assert "--config=/var/lib/kubelet/config.yaml" in kubelet["argv"]
        tags = region.ec2.tags(volumes[0])
        assert tags["protokube.k8s.io/filesystem"] == node.filesystems()[f"/mnt/master-{volumes[0]}"]
        assert ("PUT", "/latest/api/token") in region.imds.requests
