"""What AttachVolume is asked for, and what a refusal, a lost answer and a volume that falls back mean."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from protokube import awsclient
from protokube.cloudprovider.aws import attachments
from protokube.cloudprovider.aws.ec2 import Ec2
from protokube.cloudprovider.aws.errors import HINTS
from protokube.cloudprovider.aws.provider import AwsCloud
from protokube.core.volumes.model import Attachment, AttachState, Obstacle
from protokube.errors import (
    DeviceConflictError,
    OutcomeUnknownError,
    ProviderError,
    TaggingForbiddenError,
    VolumeDeniedError,
    VolumeInUseError,
)
from tests.lab.aws import ZONE, Lab, only, volumes_of
from tests.lab.ec2 import REGION


def attach(volume_id: str) -> AwsCloud:
    """Look, and ask for a volume, as a first reconcile does."""
    cloud = AwsCloud()
    cloud.snapshot(volumes=True)
    cloud.attach(volume_id)
    return cloud


def test_attach_names_a_device_and_returns_at_once(lab: Lab) -> None:
    volume_id, events = lab.volume(), lab.volume("events")
    lab.ec2.attaching_seconds = 3600
    heard: list[tuple[str, str, str]] = []
    lab.ec2.on_attach = lambda *what: heard.append(what)
    cloud = attach(volume_id)
    assert heard == [(volume_id, lab.node, "/dev/xvdu")]
    cloud.attach(events)
    assert heard[1:] == [(events, lab.node, "/dev/xvdv")]


def test_a_volume_that_another_node_holds(lab: Lab) -> None:
    volume_id = lab.volume()
    lab.ec2.attach(volume_id, lab.another_node(), "/dev/xvdu")
    with pytest.raises(VolumeInUseError, match=rf"AttachVolume {volume_id} to {lab.node} as /dev/xvdu: VolumeInUse"):
        attach(volume_id)


def test_a_volume_that_is_ours_already_is_in_use_and_the_next_look_shows_it(lab: Lab) -> None:
    volume_id = lab.volume()
    cloud = AwsCloud()
    volumes_of(cloud)
    lab.ec2.attach(volume_id, lab.node, "/dev/xvdw")  # by a daemon that was killed then
    with pytest.raises(VolumeInUseError, match="our own earlier request"):
        cloud.attach(volume_id)
    attachment = only(volumes_of(cloud)).attachment_to(lab.node)
    assert attachment
    assert attachment.device == "/dev/xvdw"


@pytest.mark.parametrize("code", ["InvalidParameterValue", "InvalidDevice.InUse"])
@pytest.mark.parametrize("spelling", ["/dev/xvdu", "/dev/sdu", "xvdu", "sdu"])
def test_a_device_name_that_is_taken_after_all(lab: Lab, code: str, spelling: str) -> None:
    lab.ec2.name_taken = code
    volume_id = lab.volume()
    cloud = AwsCloud()
    volumes_of(cloud)
    lab.ec2.attach(lab.ec2.create_volume(ZONE, {}), lab.node, spelling)  # by hand, and no volume of etcd
    with pytest.raises(DeviceConflictError, match=rf"{code}: .*next free device name") as caught:
        cloud.attach(volume_id)
    assert caught.value.device == "/dev/xvdu"
    assert only(volumes_of(cloud)).obstacle is None  # the mapping was read again, and shows what has the name
    cloud.attach(volume_id)
    attachment = only(volumes_of(cloud)).attachment_to(lab.node)
    assert attachment and attachment.device == "/dev/xvdv"
    assert lab.ec2.operations().count("DescribeInstances") == 2


def test_a_volume_of_another_zone(lab: Lab) -> None:
    with pytest.raises(ProviderError, match=r"InvalidVolume\.ZoneMismatch.*its own availability zone only"):
        attach(lab.volume(zone="us-east-1b"))


def test_an_instance_that_takes_no_more(lab: Lab) -> None:
    lab.ec2.attachment_limit = 1
    with pytest.raises(ProviderError, match=r"AttachmentLimitExceeded.*larger type"):
        attach(lab.volume())


@pytest.mark.parametrize("state", ["pending", "shutting-down", "terminated"])
def test_an_instance_that_is_not_running(lab: Lab, state: str) -> None:
    lab.ec2.set_state(lab.node, state)
    with pytest.raises(ProviderError, match=r"IncorrectState.*it is tried again"):
        attach(lab.volume())


def test_a_volume_that_is_not_there(lab: Lab) -> None:
    with pytest.raises(ProviderError, match=r"InvalidVolume\.NotFound"):
        attach("vol-0000000000000dead")


def test_a_missing_permission_names_it_and_how_to_decode_the_rest(lab: Lab) -> None:
    lab.ec2.denied = {"AttachVolume"}
    with pytest.raises(
        ProviderError, match=r"(?s)ec2:AttachVolume.*4KpT0f8x.*docs/aws\.md.*decode-authorization"
    ) as e:
        attach(lab.volume())
    assert isinstance(e.value.__cause__, awsclient.ClientError)


@pytest.mark.parametrize("code", [*HINTS, "SomethingNew"])
def test_every_code_is_explained(lab: Lab, code: str) -> None:
    lab.ec2.fail_next("AttachVolume", code, "It says so.")
    with pytest.raises(ProviderError) as caught:
        attach("vol-1")
    hint = HINTS.get(code, "look the code up")
    assert f"EC2 AttachVolume vol-1 to {lab.node} as /dev/xvdw: {code}: It says so (" in str(caught.value)
    assert hint in str(caught.value)
    assert isinstance(caught.value, VolumeInUseError) == (code == "VolumeInUse")
    assert not isinstance(caught.value, DeviceConflictError | TaggingForbiddenError)


def test_the_names_that_the_instance_and_the_kernel_have_are_known(lab: Lab) -> None:
    lab.ec2.attach(lab.ec2.create_volume(ZONE, {}), lab.node, "xvdu")  # by hand, and no volume of etcd
    volume_id = lab.volume()

    def unreadable() -> frozenset[str]:
        raise PermissionError(13, "Permission denied")

    for kernel, reason in (
        (lambda: frozenset[str](), "/dev/xvdu is in use, and the cloud doesn't show by what"),  # the mapping is young
        (lambda: frozenset({"xvdu"}), "/dev/xvdu is in use, and the cloud doesn't show by what"),
        (unreadable, "the device names in use aren't known: /sys/block: Permission denied"),
    ):
        cloud = AwsCloud(kernel_names=kernel)
        obstacle = only(volumes_of(cloud)).obstacle
        assert obstacle == Obstacle(reason)
        with pytest.raises(ProviderError, match=f"AttachVolume {volume_id}: {reason}"):
            cloud.attach(volume_id)
    assert "AttachVolume" not in lab.ec2.operations()


def test_five_nodes_race_for_one_volume_and_one_wins(lab: Lab) -> None:
    volume_id = lab.volume()
    nodes = [lab.node, *(lab.another_node() for _ in range(4))]
    start = threading.Barrier(len(nodes))

    def claim(node: str) -> str | None:
        start.wait()
        try:
            Ec2(lambda: REGION).attach(volume_id, node, "/dev/xvdu")
        except VolumeInUseError:
            return None
        return node

    with ThreadPoolExecutor(len(nodes)) as pool:
        winners = [node for node in pool.map(claim, nodes) if node]
    assert winners == [lab.ec2.holder(volume_id)]


@pytest.mark.parametrize(
    ("operation", "code", "status", "kind"),
    [
        ("AttachVolume", "InternalError", 500, OutcomeUnknownError),
        ("AttachVolume", "Unavailable", 503, OutcomeUnknownError),
        ("AttachVolume", "RequestLimitExceeded", 503, ProviderError),
        ("AttachVolume", "UnauthorizedOperation", 403, ProviderError),
        ("AttachVolume", "AttachmentLimitExceeded", 400, ProviderError),
        ("AttachVolume", "InvalidVolume.ZoneMismatch", 400, VolumeDeniedError),
        ("AttachVolume", "UnsupportedOperation", 400, VolumeDeniedError),
        ("AttachVolume", "IncorrectState", 400, ProviderError),
        ("DescribeVolumes", "InternalError", 500, ProviderError),
    ],
)
def test_what_a_refusal_means_for_the_next_claim(
    lab: Lab, operation: str, code: str, status: int, kind: type[ProviderError]
) -> None:
    volume_id = lab.volume()
    cloud = AwsCloud()
    volumes_of(cloud)
    lab.ec2.fail_next(operation, code, "because", status)
    with pytest.raises(ProviderError) as caught:
        cloud.attach(volume_id) if operation == "AttachVolume" else volumes_of(cloud)
    assert type(caught.value) is kind


def test_an_incorrect_state_of_the_volume_means_that_it_is_in_use(lab: Lab) -> None:
    volume_id = lab.volume()
    lab.ec2.fail_next("AttachVolume", "IncorrectState", f"{volume_id} is not 'available'.")
    with pytest.raises(VolumeInUseError):
        attach(volume_id)


def test_a_lost_answer_leaves_it_open_and_the_next_attempt_tells(lab: Lab) -> None:
    volume_id = lab.volume()
    lab.ec2.lose_next("AttachVolume")
    cloud = AwsCloud()
    volumes_of(cloud)
    with pytest.raises(OutcomeUnknownError):
        cloud.attach(volume_id)
    with pytest.raises(VolumeInUseError):
        cloud.attach(volume_id)
    assert only(volumes_of(cloud)).attachment_to(lab.node)


def state(cloud: AwsCloud, instance: str) -> tuple[AttachState, str | None] | None:
    """How the one volume is attached to an instance."""
    one = only(volumes_of(cloud)).attachment_to(instance)
    return (one.state, one.device) if one else None


def test_what_ec2_has_accepted_is_unconfirmed_and_not_asked_for_again_while_its_answers_may_lag(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "LAG", 3600.0)
    volume_id = lab.volume()
    lab.ec2.lagging_looks = 2
    cloud = attach(volume_id)
    for _ in range(2):
        assert state(cloud, lab.node) == (AttachState.UNCONFIRMED, "/dev/xvdu")
        with pytest.raises(OutcomeUnknownError, match="may lag behind"):
            cloud.attach(volume_id)
    assert state(cloud, lab.node) == (AttachState.ATTACHED, "/dev/xvdu")
    assert lab.ec2.operations().count("AttachVolume") == 1


def test_a_daemon_that_was_killed_may_have_got_what_the_mapping_shows(lab: Lab) -> None:
    """And no answer of DescribeVolumes shows it yet. It asks again for that very one."""
    volume_id, another = lab.volume(), lab.volume(spec="b/a,b")
    lab.ec2.lagging_looks = 2
    attach(volume_id)  # killed here
    cloud = AwsCloud()
    mine = {one.id: one.attachment_to(lab.node) for one in volumes_of(cloud)}
    assert mine == {volume_id: Attachment(lab.node, "/dev/xvdu", AttachState.UNCONFIRMED), another: None}
    with pytest.raises(VolumeInUseError):
        cloud.attach(volume_id)
    mine = {one.id: one.attachment_to(lab.node) for one in volumes_of(cloud)}
    assert mine[volume_id] == Attachment(lab.node, "/dev/xvdu", AttachState.UNCONFIRMED)


@pytest.mark.parametrize("looks", [0, 1])
def test_a_volume_that_fell_back_is_said_and_left_alone_for_a_while(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    volume_id = lab.volume()
    lab.ec2.attaching_looks = looks
    lab.ec2.falls_back = {volume_id}
    cloud = attach(volume_id)
    for _ in range(looks):
        assert state(cloud, lab.node) == (AttachState.ATTACHING, "/dev/xvdu")
    assert state(cloud, lab.node) == (AttachState.UNCONFIRMED, "/dev/xvdu")
    monkeypatch.setattr(attachments, "LAG", 0.0)
    with pytest.raises(VolumeDeniedError, match=rf"{volume_id}.*fell back from attaching to available.*KMS key"):
        cloud.attach(volume_id)
    assert only(volumes_of(cloud)).available
    assert lab.ec2.operations().count("AttachVolume") == 1
    monkeypatch.setattr(attachments, "FALLEN_FOR", 0.0)
    cloud.attach(volume_id)
    assert lab.ec2.holder(volume_id) == lab.node
