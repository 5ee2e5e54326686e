"""What AttachVolume is asked for, and what a refusal, a lost answer and a volume that falls back mean."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from protokube import awsclient
from protokube.cloudprovider.aws import provider
from protokube.cloudprovider.aws.ec2 import Ec2
from protokube.cloudprovider.aws.errors import HINTS
from protokube.cloudprovider.aws.provider import AwsCloud
from protokube.core.volumes.model import AttachState
from protokube.errors import (
    DeviceConflictError,
    OutcomeUnknownError,
    ProviderError,
    TaggingForbiddenError,
    VolumeInUseError,
    VolumeDeniedError,
)
from tests.lab.aws import ZONE, Lab, only
from tests.lab.ec2 import REGION


def test_attach_asks_for_the_device_and_returns_at_once(lab: Lab) -> None:
    volume_id = lab.volume()
    lab.ec2.attaching_seconds = 3600
    heard: list[tuple[str, str, str]] = []
    lab.ec2.on_attach = lambda *what: heard.append(what)
    cloud = AwsCloud()
    assert "/dev/xvdv" not in cloud.instance().used_devices
    cloud.attach(volume_id, "/dev/xvdv")
    assert heard == [(volume_id, lab.node, "/dev/xvdv")]
    assert "/dev/xvdv" in cloud.instance().used_devices  # before any look at the volumes


def test_a_volume_that_another_node_holds(lab: Lab) -> None:
    volume_id = lab.volume()
    lab.ec2.attach(volume_id, lab.another_node(), "/dev/xvdu")
    with pytest.raises(VolumeInUseError, match=rf"AttachVolume {volume_id} to {lab.node} as /dev/xvdu: VolumeInUseError"):
        AwsCloud().attach(volume_id, "/dev/xvdu")


def test_a_volume_that_is_ours_already_is_in_use_and_the_next_look_shows_it(lab: Lab) -> None:
    volume_id = lab.volume()
    cloud = AwsCloud()
    lab.ec2.attach(volume_id, lab.node, "/dev/xvdu")  # by a daemon that was killed then
    with pytest.raises(VolumeInUseError, match="our own earlier request"):
        cloud.attach(volume_id, "/dev/xvdv")
    attachment = only(cloud.volumes()).attachment_to(lab.node)
    assert attachment
    assert attachment.device == "/dev/xvdu"
    assert "/dev/xvdv" not in cloud.instance().used_devices


@pytest.mark.parametrize("code", ["InvalidParameterValue", "InvalidDevice.InUse"])
@pytest.mark.parametrize("spelling", ["/dev/xvdu", "/dev/sdu", "xvdu", "sdu"])
def test_a_device_name_that_is_taken_after_all(lab: Lab, code: str, spelling: str) -> None:
    lab.ec2.name_taken = code
    lab.ec2.attach(lab.ec2.create_volume(ZONE, {}), lab.node, spelling)
    with pytest.raises(DeviceConflictError, match=rf"{code}: .*next free device name") as caught:
        AwsCloud().attach(lab.volume(), "/dev/xvdu")
    assert caught.value.device == "/dev/xvdu"


def test_a_volume_of_another_zone(lab: Lab) -> None:
    with pytest.raises(ProviderError, match=r"InvalidVolume\.ZoneMismatch.*its own availability zone only"):
        AwsCloud().attach(lab.volume(zone="us-east-1b"), "/dev/xvdu")


def test_an_instance_that_takes_no_more(lab: Lab) -> None:
    lab.ec2.attachment_limit = 1
    with pytest.raises(ProviderError, match=r"AttachmentLimitExceeded.*larger type"):
        AwsCloud().attach(lab.volume(), "/dev/xvdu")


@pytest.mark.parametrize("state", ["pending", "shutting-down", "terminated"])
def test_an_instance_that_is_not_running(lab: Lab, state: str) -> None:
    lab.ec2.set_state(lab.node, state)
    with pytest.raises(ProviderError, match=r"IncorrectState.*it is tried again"):
        AwsCloud().attach(lab.volume(), "/dev/xvdu")


def test_a_volume_that_is_not_there(lab: Lab) -> None:
    with pytest.raises(ProviderError, match=r"InvalidVolume\.NotFound"):
        AwsCloud().attach("vol-0000000000000dead", "/dev/xvdu")


def test_a_missing_permission_names_it_and_how_to_decode_the_rest(lab: Lab) -> None:
    lab.ec2.denied = {"AttachVolume"}
    with pytest.raises(
        ProviderError, match=r"(?s)ec2:AttachVolume.*4KpT0f8x.*docs/aws\.md.*decode-authorization"
    ) as e:
        AwsCloud().attach(lab.volume(), "/dev/xvdu")
    assert isinstance(e.value.__cause__, awsclient.ClientError)


@pytest.mark.parametrize("code", [*HINTS, "SomethingNew"])
def test_every_code_is_explained(lab: Lab, code: str) -> None:
    lab.ec2.fail_next("AttachVolume", code, "It says so.")
    with pytest.raises(ProviderError) as caught:
        AwsCloud().attach("vol-1", "/dev/xvdu")
    hint = HINTS.get(code, "look the code up")
    assert f"EC2 AttachVolume vol-1 to {lab.node} as /dev/xvdu: {code}: It says so (" in str(caught.value)
    assert hint in str(caught.value)
    assert isinstance(caught.value, VolumeInUseError) == (code == "VolumeInUseError")
    assert not isinstance(caught.value, DeviceConflictError | TaggingForbiddenError)


def test_no_device_name(lab: Lab) -> None:
    with pytest.raises(ProviderError, match="needs a device name"):
        AwsCloud().attach("vol-1", None)
    assert lab.ec2.operations() == []


def test_a_failed_attach_takes_no_device_name(lab: Lab) -> None:
    cloud = AwsCloud()
    lab.ec2.fail_next("AttachVolume", "InternalError", status=500)
    with pytest.raises(ProviderError):
        cloud.attach(lab.volume(), "/dev/xvdu")
    assert "/dev/xvdu" not in cloud.instance().used_devices


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
    lab.ec2.fail_next(operation, code, "because", status)
    cloud = AwsCloud()
    with pytest.raises(ProviderError) as caught:
        cloud.attach(volume_id, "/dev/xvdu") if operation == "AttachVolume" else cloud.volumes()
    assert type(caught.value) is kind


def test_an_incorrect_state_of_the_volume_means_that_somebody_has_it(lab: Lab) -> None:
    volume_id = lab.volume()
    lab.ec2.fail_next("AttachVolume", "IncorrectState", f"{volume_id} is not 'available'.")
    with pytest.raises(VolumeInUseError):
        AwsCloud().attach(volume_id, "/dev/xvdu")


def test_a_lost_answer_leaves_it_open_and_the_next_attempt_tells(lab: Lab) -> None:
    volume_id = lab.volume()
    lab.ec2.lose_next("AttachVolume")
    cloud = AwsCloud()
    with pytest.raises(OutcomeUnknownError):
        cloud.attach(volume_id, "/dev/xvdu")
    with pytest.raises(VolumeInUseError):
        cloud.attach(volume_id, "/dev/xvdu")
    assert only(cloud.volumes()).attachment_to(lab.node)


def test_what_ec2_has_accepted_is_not_asked_for_again_while_its_answers_may_lag(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "LAG", 3600.0)
    volume_id = lab.volume()
    lab.ec2.lagging_looks = 2
    cloud = AwsCloud()
    cloud.attach(volume_id, "/dev/xvdu")
    for _ in range(2):
        assert only(cloud.volumes()).available
        with pytest.raises(OutcomeUnknownError, match="may lag behind"):
            cloud.attach(volume_id, "/dev/xvdu")
    assert only(cloud.volumes()).attachment_to(lab.node)
    assert lab.ec2.operations().count("AttachVolume") == 1


def test_after_a_conflict_the_block_device_mapping_is_asked_anew(lab: Lab) -> None:
    cloud = AwsCloud()
    assert "/dev/xvdu" not in cloud.instance().used_devices
    lab.ec2.attach(lab.ec2.create_volume(ZONE, {}), lab.node, "/dev/xvdu")  # by hand, and no volume of etcd
    with pytest.raises(DeviceConflictError):
        cloud.attach(lab.volume(), "/dev/xvdu")
    assert "/dev/xvdu" in cloud.instance().used_devices


@pytest.mark.parametrize("looks", [0, 1])
def test_a_volume_that_fell_back_is_said_and_left_alone_for_a_while(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    volume_id = lab.volume()
    lab.ec2.attaching_looks = looks
    lab.ec2.falls_back = {volume_id}
    cloud = AwsCloud()
    cloud.attach(volume_id, "/dev/xvdu")
    for _ in range(looks):
        attachment = only(cloud.volumes()).attachment_to(lab.node)
        assert attachment and attachment.state is AttachState.ATTACHING
    assert only(cloud.volumes()).available
    assert "/dev/xvdu" not in cloud.instance().used_devices
    monkeypatch.setattr(provider, "LAG", 0.0)
    with pytest.raises(VolumeDeniedError, match=rf"{volume_id}.*fell back from attaching to available.*KMS key"):
        cloud.attach(volume_id, "/dev/xvdu")
    assert lab.ec2.operations().count("AttachVolume") == 1
    monkeypatch.setattr(provider, "FALLEN_FOR", 0.0)
    cloud.attach(volume_id, "/dev/xvdu")
    assert lab.ec2.holder(volume_id) == lab.node
