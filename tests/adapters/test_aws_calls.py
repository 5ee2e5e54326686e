"""How often the AWS cloud asks EC2, what it makes of trouble on the way, and the tags it writes."""

from __future__ import annotations

import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from protokube.cloudprovider.aws import last, scope
from protokube.cloudprovider.aws.ec2 import TagFilter
from protokube.cloudprovider.aws.provider import AwsCloud
from protokube.core.model import Unknown
from protokube.core.volumes.model import FILESYSTEM_TAG, AttachState, CloudVolume
from protokube.errors import (
    ProviderError,
    TaggingForbiddenError,
)
from tests.lab.aws import CLUSTER, ZONE, Lab, etcd_tags, instance_of, known, one_reconcile, only, peers_of, volumes_of

# --- the number of calls -------------------------------------------------------------------------------


def bootstrap(lab: Lab, cloud: AwsCloud, volumes: list[str]) -> None:
    """What the loop does: look, attach the next free volume, look until it's attached, and mark what it has made."""
    while True:
        _, seen = one_reconcile(cloud)
        states = {volume.id: volume.attachment_to(lab.node) for volume in seen}
        if any(one and one.state is not AttachState.ATTACHED for one in states.values()):
            continue
        free = [volume_id for volume_id in volumes if states[volume_id] is None]
        if not free:
            return
        cloud.attach(free[0])


def test_a_fresh_start_makes_the_fewest_calls(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last, "KNOWN_FOR", 3600.0)
    volumes = [lab.volume("main"), lab.volume("events")]
    lab.ec2.attaching_looks = 1
    cloud = AwsCloud()
    bootstrap(lab, cloud, volumes)
    assert [lab.ec2.holder(one) for one in volumes] == [lab.node, lab.node]
    # Nothing is attached; attaching, attached; attaching, attached.
    assert Counter(lab.ec2.operations()) == {"DescribeInstances": 1, "AttachVolume": 2, "DescribeVolumes": 5}
    assert len(lab.imds.paths("PUT")) == 1
    assert lab.imds.paths().count("/latest/dynamic/instance-identity/document") == 1
    assert len(lab.imds.paths("GET")) == 1 + 2 * 3, "a request for a volume changes no address"


def test_a_converged_snapshot_is_one_describe(lab: Lab) -> None:
    cloud = AwsCloud()
    bootstrap(lab, cloud, [lab.volume()])
    lab.ec2.forget()
    lab.imds.requests.clear()
    for number in range(1, 4):
        one_reconcile(cloud)
        assert lab.ec2.operations() == ["DescribeVolumes"] * number
    assert lab.imds.requests == [
        ("GET", "/latest/meta-data/ipv6"),
        ("GET", "/latest/meta-data/public-ipv4"),
    ] * 3  # fmt: skip


def test_every_snapshot_asks(lab: Lab) -> None:
    volume_id = lab.volume()
    cloud = AwsCloud()
    assert only(volumes_of(cloud)).available
    lab.ec2.attach(volume_id, lab.another_node(), "/dev/xvdu")
    assert not only(volumes_of(cloud)).available


def test_what_a_successful_write_just_said_is_not_asked_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last, "KNOWN_FOR", 3600.0)
    ids = [lab.volume("main"), lab.volume("events")]
    cloud = AwsCloud()
    bootstrap(lab, cloud, ids)
    before = cloud.snapshot(volumes=True)
    lab.ec2.forget()
    lab.imds.requests.clear()
    for volume_id in ids:
        cloud.tag(volume_id, FILESYSTEM_TAG, "1-2-3")
    told = cloud.snapshot(volumes=True)
    assert lab.ec2.operations() == ["CreateTags"] * 2 and lab.imds.requests == []
    assert {one.id: one.tags for one in known(told.volumes)} == {one: lab.ec2.tags(one) for one in ids}
    assert (told.instance, told.peers, told.can_tag) == (before.instance, before.peers, True)
    assert cloud.snapshot(volumes=True) == told
    assert lab.ec2.operations() == ["CreateTags"] * 2 + ["DescribeVolumes"], "it is told again once"


def test_a_write_that_failed_or_was_long_ago_says_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    volume_id = lab.volume()
    cloud = AwsCloud()
    one_reconcile(cloud)
    cloud.tag(volume_id, FILESYSTEM_TAG, "1-2-3")
    with pytest.raises(ProviderError):
        cloud.tag("vol-0123456789abcdef0", FILESYSTEM_TAG, "1-2-3")
    one_reconcile(cloud)
    cloud.tag(volume_id, FILESYSTEM_TAG, "1-2-3")
    cloud.attach(volume_id)
    assert only(volumes_of(cloud)).attachment_to(lab.node)
    cloud.tag(volume_id, FILESYSTEM_TAG, "1-2-3")
    monkeypatch.setattr(last, "KNOWN_FOR", 0.0)
    one_reconcile(cloud)
    assert lab.ec2.operations().count("DescribeVolumes") == 4


def test_a_snapshot_during_which_something_was_written_is_not_told_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that hung, say, and ends when the next reconcile has long acted."""
    monkeypatch.setattr(last, "KNOWN_FOR", 3600.0)
    volume_id, other = lab.volume(), lab.volume("events")
    cloud = AwsCloud()
    one_reconcile(cloud)
    real = cloud._ec2.volumes

    def slowly(tagged: TagFilter | None = None) -> tuple[CloudVolume, ...]:
        answer = real(tagged)
        cloud.attach(volume_id)
        return answer

    monkeypatch.setattr(cloud._ec2, "volumes", slowly)
    cloud.snapshot(volumes=True)
    monkeypatch.setattr(cloud._ec2, "volumes", real)
    cloud.tag(other, FILESYSTEM_TAG, "1-2-3")
    found = {one.id: one.attachments for one in volumes_of(cloud)}
    assert [one.state for one in found[volume_id]] == [AttachState.ATTACHED]


def test_a_worker_asks_for_itself_alone(lab: Lab) -> None:
    """It takes no volumes, and may lack the permission for DescribeVolumes."""
    lab.ec2.denied = {"DescribeVolumes"}
    lab.ec2.attach(lab.volume(), lab.node, "/dev/xvdu")
    cloud = AwsCloud()
    for _ in range(3):
        told = cloud.snapshot(volumes=False)
        assert (known(told.instance).id, told.volumes, told.peers) == (lab.node, (), ())
    assert lab.ec2.operations() == ["DescribeInstances"]


def test_other_volumes_of_the_region_cost_nothing(lab: Lab) -> None:
    volumes = [lab.volume("main"), lab.volume("events")]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: lab.ec2._backend.create_volume(1, ZONE), range(1000)))
    cloud = AwsCloud()
    instance_of(cloud)
    lab.ec2.forget()
    assert {volume.id for volume in volumes_of(cloud)} == set(volumes)
    assert lab.ec2.operations() == ["DescribeVolumes"]


# --- trouble on the way --------------------------------------------------------------------------------


def test_throttling_hides_only_what_takes_a_call_and_passes(lab: Lab) -> None:
    volume_id = lab.volume()
    cloud = AwsCloud()
    one_reconcile(cloud)
    lab.ec2.forget()
    lab.ec2.throttle(3600)
    for number in range(1, 4):
        told = cloud.snapshot(volumes=True)
        for part in (told.volumes, told.peers):
            assert isinstance(part, Unknown) and re.search("RequestLimitExceeded.*growing pauses", part.reason)
        assert known(told.instance).id == lab.node  # what needs no call still answers
        assert lab.ec2.operations() == ["DescribeVolumes"] * number  # one a snapshot, never repeated by the library
    with pytest.raises(ProviderError, match="RequestLimitExceeded"):
        cloud.attach(volume_id)
    lab.ec2.throttle(0)
    assert only(volumes_of(cloud)).available
    cloud.attach(volume_id)
    assert lab.ec2.holder(volume_id) == lab.node


def test_throttled_from_the_first_call_nothing_is_known(lab: Lab) -> None:
    lab.ec2.throttle(3600)
    cloud = AwsCloud()
    for volumes in (True, False):
        with pytest.raises(ProviderError, match="RequestLimitExceeded"):
            cloud.snapshot(volumes=volumes)
    lab.ec2.throttle(0)
    assert instance_of(cloud).cluster_id == CLUSTER


def test_of_an_instance_without_tags_the_volumes_are_known_and_the_peers_not(lab: Lab) -> None:
    lab.imds.metadata.instance_id = lab.ec2.run_instance(ZONE, {"Name": "x"})["InstanceId"]
    volume_id = lab.volume()
    told = AwsCloud().snapshot(volumes=True)
    assert isinstance(told.instance, Unknown) and "no tag KubernetesCluster" in told.instance.reason
    assert only(known(told.volumes)).id == volume_id
    assert told.peers == told.instance


def test_peers_that_cannot_be_read_hide_nothing_else(lab: Lab) -> None:
    cloud = AwsCloud()
    one_reconcile(cloud)
    lab.ec2.attach(lab.volume(), lab.another_node(), "/dev/xvdu")
    lab.ec2.fail_next("DescribeInstances", "InternalError", "because", 500)
    told = cloud.snapshot(volumes=True)
    assert isinstance(told.peers, Unknown) and "InternalError" in told.peers.reason
    assert known(told.instance).id == lab.node and only(known(told.volumes)).attachments
    assert len(peers_of(cloud)) == 1


def test_no_way_to_ec2(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:1")
    with pytest.raises(ProviderError, match=r"DescribeVolumes.*EndpointConnectionError.*check the way to EC2"):
        volumes_of(AwsCloud())


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
                volumes_of(AwsCloud())
        finally:
            portal.shutdown()
            thread.join()


def test_a_region_without_volumes_has_none(lab: Lab) -> None:
    assert volumes_of(AwsCloud()) == ()


def test_no_metadata_means_no_identity_and_no_calls(lab: Lab) -> None:
    lab.imds.disabled = True
    cloud = AwsCloud()
    for volumes in (True, False):
        with pytest.raises(ProviderError, match="instance metadata"):
            cloud.snapshot(volumes=volumes)
    assert lab.ec2.operations() == []


# --- tags ----------------------------------------------------------------------------------------------


def test_a_tag_is_written(lab: Lab) -> None:
    volume_id = lab.volume()
    cloud = AwsCloud()
    cloud.tag(volume_id, FILESYSTEM_TAG, "1-2-3")
    assert lab.ec2.tags(volume_id)[FILESYSTEM_TAG] == "1-2-3"
    assert cloud.snapshot(volumes=True).can_tag


def test_a_missing_permission_to_tag_is_remembered_and_nothing_else_suffers(lab: Lab) -> None:
    volume_id = lab.volume()
    lab.ec2.denied = {"CreateTags"}
    cloud = AwsCloud()
    for _ in range(3):
        with pytest.raises(TaggingForbiddenError, match="the node runs without its marks"):
            cloud.tag(volume_id, FILESYSTEM_TAG, "1-2-3")
    assert lab.ec2.operations() == ["CreateTags"]
    assert not cloud.snapshot(volumes=True).can_tag
    cloud.attach(volume_id)


def test_a_throttled_tag_is_no_missing_permission(lab: Lab) -> None:
    lab.ec2.throttle(3600)
    cloud = AwsCloud()
    with pytest.raises(ProviderError) as caught:
        cloud.tag("vol-1", FILESYSTEM_TAG, "1-2-3")
    assert not isinstance(caught.value, TaggingForbiddenError)
    lab.ec2.throttle(0)
    assert cloud.snapshot(volumes=True).can_tag


# --- a region with a thousand etcd volumes of other clusters ---------------------------------------------


def crowd(lab: Lab, number: int = scope.MANY) -> set[str]:
    """Etcd volumes of another cluster."""
    return {
        lab.ec2.create_volume(ZONE, etcd_tags(spec=f"m{n}/m{n}", cluster="other.example.com")) for n in range(number)
    }


def filters(lab: Lab) -> list[set[str]]:
    """The tags that each DescribeVolumes was filtered by, since the last time."""
    described = [call.parameters for call in lab.ec2.calls if call.operation == "DescribeVolumes"]
    lab.ec2.forget()
    return [{value for key, value in one.items() if re.fullmatch(r"Filter\.\d+\.Name", key)} for one in described]


WIDE = {"tag-key"}
OLD = {"tag-key", "tag:KubernetesCluster"}
NEW = {"tag-key", f"tag:kubernetes.io/cluster/{CLUSTER}"}


@pytest.mark.parametrize(
    ("tags", "asked"),
    [
        ([{"KubernetesCluster": CLUSTER}] * 2, OLD),
        ([{f"kubernetes.io/cluster/{CLUSTER}": "owned"}, {f"kubernetes.io/cluster/{CLUSTER}": "shared"}], NEW),
        ([{"KubernetesCluster": CLUSTER}, {f"kubernetes.io/cluster/{CLUSTER}": "owned"}], WIDE),
        ([], WIDE),
    ],
)
def test_volumes_of_other_clusters_are_left_out_where_that_hides_none_of_ours(
    lab: Lab, tags: list[dict[str, str]], asked: set[str]
) -> None:
    theirs = crowd(lab)
    ours = {lab.ec2.create_volume(ZONE, {"k8s.io/etcd/main": "a/a", **one}) for one in tags}
    cloud = AwsCloud()
    assert {one.id for one in volumes_of(cloud)} == ours | theirs, "how ours are tagged isn't known yet"
    for _ in range(2):
        assert {one.id for one in volumes_of(cloud)} == (ours | theirs if asked == WIDE else ours)
    assert filters(lab) == [WIDE, asked, asked]


def test_few_volumes_of_other_clusters_are_told(lab: Lab) -> None:
    theirs = crowd(lab, 3) | {lab.volume()}
    cloud = AwsCloud()
    for _ in range(2):
        assert {one.id for one in volumes_of(cloud)} == theirs
    assert filters(lab) == [WIDE, WIDE]


def test_a_volume_of_this_machine_that_lost_its_clusters_tag_stays_visible(lab: Lab) -> None:
    crowd(lab)
    ours, lost = lab.volume(), lab.volume("events")
    lab.ec2.attach(ours, lab.node, "/dev/xvdu")
    lab.ec2.attach(lost, lab.node, "/dev/xvdv")
    cloud = AwsCloud()
    for _ in range(2):
        assert {ours, lost} <= {one.id for one in volumes_of(cloud)}
    assert filters(lab) == [WIDE, OLD]
    lab.ec2.untag(lost, "KubernetesCluster")
    for _ in range(2):
        assert {ours, lost} <= {one.id for one in volumes_of(cloud)}
    assert filters(lab) == [OLD, WIDE, WIDE], "as long as it is attached"
    lab.ec2.detach(lost)
    for _ in range(2):
        assert ours in {one.id for one in volumes_of(cloud)}
    assert filters(lab) == [WIDE, OLD]


def test_a_volume_tagged_in_the_other_spelling_is_seen_after_a_while(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd(lab)
    lab.volume()
    cloud = AwsCloud()
    volumes_of(cloud)
    new = lab.ec2.create_volume(ZONE, {"k8s.io/etcd/main": "b/b", f"kubernetes.io/cluster/{CLUSTER}": "owned"})
    assert new not in {one.id for one in volumes_of(cloud)}
    monkeypatch.setattr(scope, "WIDE_EVERY", 0.0)
    assert new in {one.id for one in volumes_of(cloud)}
