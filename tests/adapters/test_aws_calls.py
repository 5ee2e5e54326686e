"""How often the AWS cloud asks EC2, what it makes of trouble on the way, and the tags it writes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from protokube.cloudprovider.aws import shared
from protokube.cloudprovider.aws.provider import AwsCloud
from protokube.core.volumes.model import FILESYSTEM_TAG, AttachState
from protokube.errors import (
    ProviderError,
    TaggingForbiddenError,
)
from tests.lab.aws import CLUSTER, ZONE, Lab, one_round, only


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are counted here, on however slow a machine."""
    monkeypatch.setattr(shared, "SHARED_FOR", 3600.0)


# --- the number of calls -------------------------------------------------------------------------------


def bootstrap(lab: Lab, cloud: AwsCloud, volumes: list[str]) -> None:
    """What the loop does: look, attach the next free volume, look until it's attached."""
    taken: set[str] = set()
    while True:
        instance, seen = one_round(cloud)
        states = {volume.id: volume.attachment_to(lab.node) for volume in seen}
        if any(one and one.state is not AttachState.ATTACHED for one in states.values()):
            continue
        free = [volume_id for volume_id in volumes if states[volume_id] is None]
        if not free:
            return
        device = next(name for name in instance.device_names if name not in instance.used_devices | taken)
        cloud.attach(free[0], device)


def test_a_fresh_start_makes_the_fewest_calls(lab: Lab) -> None:
    volumes = [lab.volume("main"), lab.volume("events")]
    lab.ec2.attaching_looks = 1
    cloud = AwsCloud()
    bootstrap(lab, cloud, volumes)
    assert [lab.ec2.holder(one) for one in volumes] == [lab.node, lab.node]
    # Nothing is attached; attaching, attached; attaching, attached.
    assert Counter(lab.ec2.operations()) == {"DescribeInstances": 1, "AttachVolume": 2, "DescribeVolumes": 5}
    assert len(lab.imds.paths("PUT")) == 1
    assert lab.imds.paths().count("/latest/dynamic/instance-identity/document") == 1


def test_a_settled_round_is_one_describe(lab: Lab) -> None:
    cloud = AwsCloud()
    bootstrap(lab, cloud, [lab.volume()])
    lab.ec2.forget()
    lab.imds.requests.clear()
    for number in range(1, 4):
        one_round(cloud)
        assert lab.ec2.operations() == ["DescribeVolumes"] * number
    assert lab.imds.requests == [
        ("GET", "/latest/meta-data/ipv6"),
        ("GET", "/latest/meta-data/public-ipv4"),
    ] * 3  # fmt: skip


def test_the_facets_may_be_read_in_any_order(lab: Lab) -> None:
    lab.volume()
    cloud = AwsCloud()
    one_round(cloud)
    lab.ec2.forget()
    orders: list[list[Callable[[], object]]] = [
        [cloud.peers, cloud.volumes, cloud.instance],
        [cloud.instance, cloud.volumes, cloud.peers],
        [cloud.volumes, cloud.peers, cloud.instance],
    ]
    for order in orders:
        for ask in order:
            ask()
    assert lab.ec2.operations() == ["DescribeVolumes"] * 3


def test_nobody_is_served_his_own_old_answer(lab: Lab) -> None:
    volume_id = lab.volume()
    cloud = AwsCloud()
    assert only(cloud.volumes()).available
    lab.ec2.attach(volume_id, lab.another_node(), "/dev/xvdu")
    assert not only(cloud.volumes()).available


def test_an_answer_from_before_an_attach_is_not_used_after_it(lab: Lab) -> None:
    volume_id = lab.volume()
    cloud = AwsCloud()
    cloud.peers()  # has an answer that volumes() hasn't had yet
    cloud.attach(volume_id, "/dev/xvdu")
    assert only(cloud.volumes()).attachment_to(lab.node)


def test_an_old_answer_is_not_handed_on(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = AwsCloud()
    cloud.peers()
    lab.ec2.forget()
    monkeypatch.setattr(shared, "SHARED_FOR", -1.0)
    cloud.volumes()
    assert lab.ec2.operations() == ["DescribeVolumes"]


def test_other_volumes_of_the_region_cost_nothing(lab: Lab) -> None:
    volumes = [lab.volume("main"), lab.volume("events")]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: lab.ec2._backend.create_volume(1, ZONE), range(1000)))
    cloud = AwsCloud()
    lab.ec2.forget()
    assert {volume.id for volume in cloud.volumes()} == set(volumes)
    assert lab.ec2.operations() == ["DescribeVolumes"]


# --- trouble on the way --------------------------------------------------------------------------------


def test_throttling_is_an_error_shared_by_the_round_and_passes(lab: Lab) -> None:
    volume_id = lab.volume()
    cloud = AwsCloud()
    one_round(cloud)
    lab.ec2.forget()
    lab.ec2.throttle(3600)
    for number in range(1, 4):
        for ask in (cloud.volumes, cloud.peers):
            with pytest.raises(ProviderError, match=r"RequestLimitExceeded.*the loop backs off"):
                ask()
        assert cloud.instance().id == lab.node  # what needs no call still answers
        assert lab.ec2.operations() == ["DescribeVolumes"] * number  # one a round, never repeated by the library
    with pytest.raises(ProviderError, match="RequestLimitExceeded"):
        cloud.attach(volume_id, "/dev/xvdu")
    lab.ec2.throttle(0)
    assert only(cloud.volumes()).available
    cloud.attach(volume_id, "/dev/xvdu")
    assert lab.ec2.holder(volume_id) == lab.node


def test_throttled_from_the_first_call(lab: Lab) -> None:
    lab.ec2.throttle(3600)
    cloud = AwsCloud()
    with pytest.raises(ProviderError, match="RequestLimitExceeded"):
        cloud.instance()
    lab.ec2.throttle(0)
    assert cloud.instance().cluster_id == CLUSTER


def test_no_way_to_ec2(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:1")
    with pytest.raises(ProviderError, match=r"DescribeVolumes.*EndpointConnectionError.*check the way to EC2"):
        AwsCloud().volumes()


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (b"<html><body>Please log in</p>", "no usable answer"),
        (b"<html><body>Please log in</body></html>", "the answer has no Volumes"),
    ],
)
def test_something_else_answers_in_ec2s_place(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, page: bytes, told: str
) -> None:
    class Portal(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Portal) as portal:
        thread = threading.Thread(target=portal.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", f"http://127.0.0.1:{portal.server_port}")
            with pytest.raises(ProviderError, match=told):
                AwsCloud().volumes()
        finally:
            portal.shutdown()
            thread.join()


def test_a_region_without_volumes_has_none(lab: Lab) -> None:
    assert AwsCloud().volumes() == ()


def test_no_metadata_means_no_identity_and_no_calls(lab: Lab) -> None:
    lab.imds.disabled = True
    cloud = AwsCloud()
    for ask in (cloud.instance, cloud.volumes, cloud.peers):
        with pytest.raises(ProviderError, match="instance metadata"):
            ask()
    assert lab.ec2.operations() == []


# --- tags ----------------------------------------------------------------------------------------------


def test_a_tag_is_written(lab: Lab) -> None:
    volume_id = lab.volume()
    cloud = AwsCloud()
    cloud.tag(volume_id, FILESYSTEM_TAG, "1-2-3")
    assert lab.ec2.tags(volume_id)[FILESYSTEM_TAG] == "1-2-3"
    assert cloud.can_tag


def test_a_missing_permission_to_tag_is_remembered_and_nothing_else_suffers(lab: Lab) -> None:
    volume_id = lab.volume()
    lab.ec2.denied = {"CreateTags"}
    cloud = AwsCloud()
    for _ in range(3):
        with pytest.raises(TaggingForbiddenError, match="the node runs without its marks"):
            cloud.tag(volume_id, FILESYSTEM_TAG, "1-2-3")
    assert lab.ec2.operations() == ["CreateTags"]
    assert not cloud.can_tag
    cloud.attach(volume_id, "/dev/xvdu")


def test_a_throttled_tag_is_no_missing_permission(lab: Lab) -> None:
    lab.ec2.throttle(3600)
    cloud = AwsCloud()
    with pytest.raises(ProviderError) as caught:
        cloud.tag("vol-1", FILESYSTEM_TAG, "1-2-3")
    assert not isinstance(caught.value, TaggingForbiddenError)
    assert cloud.can_tag
