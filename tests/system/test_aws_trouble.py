"""A node on AWS when EC2 throttles, fails or refuses; how many calls it makes; and what a dry run shows of it."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.aws_node import AwsNode, AwsRegion
from tests.lab.unit_node import LINKS, UNIT

pytestmark = pytest.mark.root

DESCRIBES = {"DescribeInstances", "DescribeVolumes"}


@pytest.fixture
def region(tmp_path: Path) -> Iterator[AwsRegion]:
    with AwsRegion(tmp_path) as region:
        yield region


def throttled(region: AwsRegion, operation: str, times: int) -> None:
    for _ in range(times):
        region.ec2.fail_next(operation, "RequestLimitExceeded", "Request limit exceeded.", 503)


def delays(node: AwsNode) -> list[float]:
    """The sleeps that the daemon has announced, in seconds."""
    return [float(one) for one in re.findall(r"next reconcile in ([\d.]+) s", node.journal(UNIT))]


def reconciles(node: AwsNode) -> int:
    return 1 + node.said("woken by ")


def asked(region: AwsRegion) -> Counter[str]:
    return Counter(region.ec2.operations())


def quiet(region: AwsRegion) -> None:
    """Wait until what was done has woken nobody any more."""
    seen = -1
    while len(region.ec2.calls) != seen:
        seen = len(region.ec2.calls)
        time.sleep(0.7)


def assert_it_is_a_node(region: AwsRegion, node: AwsNode, *volumes: str) -> None:
    assert node.mounts().keys() == {f"/mnt/master-{one}" for one in volumes}
    assert node.links() == set(LINKS)
    assert node.show("ActiveState", "kubelet.service") == "active"
    assert node.show("NRestarts") == "0"
    assert sorted(region.held(node.instance_id).values()) == ["/dev/xvdu", "/dev/xvdv"], "no device name was lost"


def test_throttled_for_a_while(region: AwsRegion) -> None:
    """Every call is refused, then answered, then refused again: it backs off, and comes through."""
    volumes = [region.volume("main"), region.volume("events")]
    throttled(region, "DescribeInstances", 4)
    throttled(region, "DescribeVolumes", 6)
    throttled(region, "AttachVolume", 2)
    with region.node() as node:
        node.bring_up()

        assert_it_is_a_node(region, node, *volumes)
        assert node.said("RequestLimitExceeded") >= 2
        assert "the account's request rate is used up" in node.journal(UNIT)
        told = delays(node)[:4]
        assert all(2.0**n / 4 <= one + 0.051 <= 2.0**n / 2 + 0.051 for n, one in enumerate(told)), f"growing: {told}"
        assert told[2:] != [2.0, 4.0], "with jitter"
        refused = [call for call in region.ec2.calls if call.error == "RequestLimitExceeded"]
        assert len(refused) == 12


@pytest.mark.slow
def test_throttled_for_long(region: AwsRegion) -> None:
    """No call succeeds until the pauses have grown as far as they may.

    Nobody waits for kubelet here, so only the trouble itself sets the pace.
    """
    volumes = [region.volume("main"), region.volume("events")]
    with region.node(config={"kubeletUnit": "none"}) as node:
        region.ec2.throttle(3600)
        node.run("systemctl", "start", "--no-block", UNIT)
        # Without a bound the seventh would be longer than any pause may be, whatever the jitter.
        node.until("seven pauses", lambda: len(delays(node)) >= 7)
        assert len(region.ec2.calls) < 30, "it backed off"
        region.ec2.throttle(0)
        node.until("everything is up", lambda: node.links() == set(LINKS))
        assert node.mounts().keys() == {f"/mnt/master-{one}" for one in volumes}
        assert node.show("NRestarts") == "0"
        assert sorted(region.held(node.instance_id).values()) == ["/dev/xvdu", "/dev/xvdv"], "no device name was lost"
        told = delays(node)
        assert max(told) <= 10.05 and len(set(told)) > len(told) // 2, f"backing off, with jitter: {told}"


def test_one_refused_attach(region: AwsRegion) -> None:
    volumes = [region.volume("main"), region.volume("events")]
    region.ec2.fail_next("AttachVolume", "InternalError", "An internal error has occurred", 500)
    with region.node() as node:
        node.bring_up()
        assert_it_is_a_node(region, node, *volumes)
        assert asked(region)["AttachVolume"] == 3


def test_a_volume_that_falls_back_to_available_is_reported_as_that(region: AwsRegion) -> None:
    """An unusable key, say: EC2 accepts the attachment, and undoes it. Not tried again and again; a reload does."""
    main, events = region.volume("main"), region.volume("events")
    region.ec2.attaching_looks = 1
    region.ec2.falls_back = {main}
    with region.node() as node:
        node.run("systemctl", "start", "--no-block", UNIT)
        node.until("the other volume is up", lambda: node.links() == {"etcd-events.manifest"})
        told = f"{main}: EC2 accepted it, but the volume fell back from attaching to available"
        node.until("it is said", lambda: node.said(told))
        node.until("it backs off", lambda: max(delays(node)) > 2.0)
        assert asked(region)["AttachVolume"] == 2
        assert not node.kubelets()

        region.heal(main)
        node.run("systemctl", "reload", UNIT)
        node.until("kubelet is up", node.kubelets)
        node.converged()
        assert_it_is_a_node(region, node, main, events)


def test_a_volume_that_falls_back_before_anybody_sees_it_is_not_asked_for_again_and_again(region: AwsRegion) -> None:
    main = region.volume("main")
    region.ec2.falls_back = {main}
    with region.node() as node:
        node.run("systemctl", "start", "--no-block", UNIT)
        node.until("it is said", lambda: node.said("the volume fell back from attaching to available"))
        assert asked(region)["AttachVolume"] == 1
        assert node.show("NRestarts") == "0"


@pytest.mark.parametrize("lost", [False, True], ids=["answered", "answer lost"])
def test_an_attachment_that_the_answers_do_not_show_yet_is_not_made_up_for(region: AwsRegion, lost: bool) -> None:
    """Of two free `main` volumes one is taken, even when EC2's answers lag behind, and its yes got lost."""
    volumes = [region.volume("main", f"{me}/a,b") for me in "ab"]
    region.ec2.lagging_looks = 3
    if lost:
        region.ec2.lose_next("AttachVolume")
    with region.node() as node:
        node.run("systemctl", "start", "--no-block", UNIT)
        node.until("it has one", lambda: len(node.mounts()) == 1)
        node.run("systemctl", "kill", "--kill-who=main", "--signal=USR1", UNIT)
        quiet(region)
        assert len(region.held(node.instance_id)) == 1
        assert sum(region.ec2.holder(one) is not None for one in volumes) == 1


def test_the_calls_of_a_bootstrap_and_of_a_converged_reconcile(region: AwsRegion) -> None:
    volumes = [region.volume("main"), region.volume("events")]
    with region.node() as node:
        node.bring_up()
        node.run("systemctl", "stop", UNIT)
        calls = asked(region)
        own = {"DescribeInstances": 1, "AttachVolume": len(volumes), "CreateTags": len(volumes)}
        assert {name: calls[name] for name in own} == own
        # One to begin with, one for each change of its own (attached, tagged), and one before each of two formatted
        # volumes goes on; what the clock woke asks as well.
        assert calls["DescribeVolumes"] <= 1 + len(volumes) * 3 + node.said("woken by the clock"), node.journal(UNIT)
        assert calls.keys() == own.keys() | {"DescribeVolumes"}

        node.run("systemctl", "start", UNIT)
        node.converged(2)
        for _ in range(3):
            quiet(region)
            before, seen, woken = node.said("woken by SIGUSR1"), asked(region), reconciles(node)
            node.run("systemctl", "kill", "--kill-who=main", "--signal=USR1", UNIT)
            node.until("it woke", lambda: node.said("woken by SIGUSR1") > before)
            quiet(region)
            more = asked(region) - seen
            assert more == {"DescribeVolumes": reconciles(node) - woken}, "a converged reconcile is one call"
        assert len(region.imds.paths("PUT")) <= 4, "a token of the node's and one of the SDK's for each process"


def test_a_dry_run_describes_and_shows_who_holds_what(region: AwsRegion) -> None:
    volumes = {key: region.volume(key) for key in ("main", "events")}
    other = region.ec2.run_instance("us-east-1a", {"KubernetesCluster": "c.example.com"})["InstanceId"]
    held = region.volume("main", "b/a,b")
    region.ec2.attach(held, other, "/dev/xvdu")
    with region.node() as node:
        answer = node.run(*node.command_line("--dry-run", "-o", "json"))
        planned = json.loads(answer.stdout)
        assert asked(region).keys() <= DESCRIBES
        assert asked(region)["DescribeVolumes"] == 1
        attached = [step["subject"] for step in planned["steps"] if step["action"] == "attach-volume"]
        assert attached == list(volumes.values())
        assert all(step["status"] == "planned" for step in planned["steps"])
        assert planned["held"] == [{"subject": held, "holder": other, "zone": "us-east-1a"}]
        told = node.run(*node.command_line("--dry-run")).stdout
        assert f"{held} is in use by {other}" in told
        assert all(region.ec2.holder(one) is None for one in volumes.values())
        assert not node.mounts() and not node.links() and not node.kubelets()
