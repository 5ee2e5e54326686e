"""What EC2 doesn't show: requested volumes, device names in use, and how long either is believed."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from protokube.cloudprovider.aws.answer import Answer
from protokube.cloudprovider.aws.attachments import FALLEN_FOR, LAG, UNCONFIRMED_FOR, Attachments
from protokube.cloudprovider.aws.slots import CONFLICT_FOR, DEVICE_NAMES, NO_NAME, PATIENCE, Slots
from protokube.cloudprovider.aws.tracking import Tracking
from protokube.core.model import GIB, Unknown
from protokube.core.volumes.model import Attachment, AttachState, CloudVolume, Obstacle
from protokube.errors import (
    DeviceConflictError,
    OutcomeUnknownError,
    ProviderError,
    VolumeDeniedError,
    VolumeInUseError,
)

ME, OTHER = "i-me", "i-other"
U, V, W = DEVICE_NAMES[:3]


def volume(
    id_: str = "vol-1",
    holder: str | None = None,
    device: str | None = U,
    state: AttachState = AttachState.ATTACHED,
    key: str = "main",
) -> CloudVolume:
    attachments = (Attachment(holder, device, state),) if holder else ()
    status = "in-use" if holder else "available"
    return CloudVolume(id_, "z", GIB, {f"k8s.io/etcd/{key}": "a/a,b"}, status, attachments)


FREE, OURS, THEIRS = volume(), volume(holder=ME), volume(holder=OTHER)


def at(now: float, *volumes: CloudVolume, **more: object) -> Answer:
    return replace(Answer(now, ME, volumes), **more)


def unconfirmed(shown: tuple[CloudVolume, ...]) -> dict[str, str | None]:
    """The volumes that may be this machine's, with their device names."""
    found = {}
    for one in shown:
        attachment = one.attachment_to(ME)
        if attachment is not None and attachment.state is AttachState.UNCONFIRMED:
            assert one.attachments == (attachment,) and not one.available
            found[one.id] = attachment.device
    return found


# --- attach tracking -----------------------------------------------------------------------------------


def test_what_was_requested_is_unconfirmed_until_it_is_shown_or_long_ago() -> None:
    tracked = Attachments()
    tracked.shown(at(99.0, FREE))
    tracked.accepted(FREE.id, U, 100.0)
    assert unconfirmed(tracked.shown(at(101.0, FREE))) == {FREE.id: U}
    assert unconfirmed(tracked.shown(at(102.0))) == {FREE.id: U}, "an answer may leave it out"
    assert tracked.shown(at(103.0, OURS)) == (OURS,)
    assert unconfirmed(tracked.shown(at(103.0 + UNCONFIRMED_FOR - 1, FREE))) == {FREE.id: U}, "since it was shown"
    assert tracked.shown(at(103.0 + UNCONFIRMED_FOR, FREE)) == (FREE,)
    assert tracked.shown(at(103.0 + UNCONFIRMED_FOR)) == ()


def test_an_answer_may_leave_out_what_was_shown_as_ours() -> None:
    tracked = Attachments()
    tracked.shown(at(1.0, OURS, volume("vol-2")))
    (other, ours) = tracked.shown(at(2.0, volume("vol-2")))
    assert other == volume("vol-2")
    assert ours == replace(OURS, attachments=(Attachment(ME, U, AttachState.UNCONFIRMED),))
    assert tracked.shown(at(1.0 + UNCONFIRMED_FOR, volume("vol-2"))) == (volume("vol-2"),)


def test_what_another_instance_got_or_ec2_denied_is_unconfirmed_no_more() -> None:
    tracked = Attachments()
    tracked.requested(FREE.id, U, 100.0)
    assert tracked.shown(at(101.0, THEIRS)) == (THEIRS,)
    assert tracked.shown(at(102.0, FREE)) == (FREE,), "the other gave it up"
    tracked.requested(FREE.id, U, 103.0)
    tracked.denied(FREE.id)
    assert tracked.shown(at(104.0, FREE)) == (FREE,)


def test_what_a_young_mapping_shows_is_unconfirmed_as_well() -> None:
    """A daemon before this one requested it, and was killed."""
    mapping = {"/dev/xvda": "vol-root", U: FREE.id}
    assert unconfirmed(Attachments().shown(at(1.0, FREE, devices=mapping, young=True))) == {FREE.id: U}
    assert Attachments().shown(at(1.0, FREE, devices=mapping)) == (FREE,)
    for shown in (OURS, THEIRS):
        assert Attachments().shown(at(1.0, shown, devices=mapping, young=True)) == (shown,)
    tracked = Attachments()
    tracked.requested(FREE.id, None, 1.0)  # EC2 calls it in use
    assert unconfirmed(tracked.shown(at(2.0, FREE, devices=mapping, young=True))) == {FREE.id: U}


def test_a_request_in_use_keeps_the_name_of_the_one_before() -> None:
    tracked = Attachments()
    tracked.requested(FREE.id, V, 1.0)
    tracked.requested(FREE.id, None, 2.0)
    assert unconfirmed(tracked.shown(at(3.0, FREE))) == {FREE.id: V}


def test_what_ec2_accepted_is_left_alone_and_then_has_fallen_back() -> None:
    tracked = Attachments()
    assert tracked.refusal(FREE.id, 0.0) is None
    tracked.accepted(FREE.id, U, 100.0)
    tracked.shown(at(101.0, FREE))
    assert isinstance(tracked.refusal(FREE.id, 100.0 + LAG - 1), OutcomeUnknownError)
    tracked.shown(at(110.0, volume(holder=ME, state=AttachState.ATTACHING)))
    assert isinstance(tracked.refusal(FREE.id, 110.0 + LAG - 1), OutcomeUnknownError), (
        "it was on its way a moment ago"
    )
    assert isinstance(tracked.refusal(FREE.id, 110.0 + LAG), VolumeDeniedError)
    assert isinstance(tracked.refusal(FREE.id, 110.0 + FALLEN_FOR - 1), VolumeDeniedError)
    assert tracked.refusal(FREE.id, 110.0 + FALLEN_FOR) is None


@pytest.mark.parametrize("shown", [OURS, THEIRS])
def test_what_has_been_attached_has_not_fallen_back(shown: CloudVolume) -> None:
    tracked = Attachments()
    tracked.accepted(FREE.id, U, 100.0)
    tracked.shown(at(101.0, shown))
    assert tracked.refusal(FREE.id, 102.0) is None, "it was detached since"


# --- device names --------------------------------------------------------------------------------------


def chosen(answer: Answer, cluster: str = "main", slots: Slots | None = None) -> str | Obstacle:
    slots = slots or Slots()
    slots.look(answer)
    return slots.choose(cluster)


def in_use(name: str) -> Obstacle:
    return Obstacle(f"{name} is in use, and the cloud doesn't show by what")


def test_each_etcd_cluster_begins_with_a_name_of_its_own() -> None:
    """So EC2 itself refuses a second volume of a cluster whose first one its answers don't show."""
    assert [chosen(at(0.0), key) for key in ("main", "events", "cilium")] == [U, V, W]
    tracked = Slots()
    assert chosen(at(0.0, FREE, volume("vol-2")), "main", tracked) == chosen(at(1.0), "main", tracked) == U


def test_what_an_attachment_or_the_mapping_has_is_passed_over() -> None:
    assert chosen(at(0.0, OURS)) == V
    assert chosen(at(0.0, THEIRS)) == U
    assert chosen(at(0.0, volume(holder=ME, state=AttachState.DETACHING))) == V
    assert chosen(at(0.0, devices={"/dev/xvda": "vol-root", U: "vol-by-hand", V: ""})) == W
    assert chosen(at(0.0, FREE, devices={U: FREE.id})) == U, "of what is told, DescribeVolumes knows better"


@pytest.mark.parametrize("spelling", ["/dev/xvdu", "xvdu", "/dev/sdu", "sdu"])
def test_a_name_has_several_spellings(spelling: str) -> None:
    assert chosen(at(0.0, devices={spelling: "vol-by-hand"})) == V
    assert chosen(at(0.0, volume(holder=ME, device=spelling))) == V


@pytest.mark.parametrize("kernel", ["xvdu", "sdu"])
def test_a_name_that_nothing_shown_has_is_waited_for_and_then_passed_over(kernel: str) -> None:
    slots, names = Slots(), frozenset({"xvda", kernel, "nvme0n1", "loop0"})
    assert chosen(at(1.0, FREE, kernel=names), slots=slots) == in_use(U)
    assert chosen(at(PATIENCE, FREE, kernel=names), slots=slots) == in_use(U)
    assert chosen(at(1.0 + PATIENCE, FREE, kernel=names), slots=slots) == V
    assert chosen(at(2.0 + PATIENCE, FREE), slots=slots) == U, "the disk went"
    assert chosen(at(3.0 + PATIENCE, FREE, kernel=names), slots=slots) == in_use(U), "and came again"
    assert chosen(at(4.0 + PATIENCE, OURS, kernel=names), slots=slots) == V, "it is shown now"


def test_a_young_mapping_may_name_what_is_not_shown_yet() -> None:
    slots, mapping = Slots(), {U: "vol-9", "/dev/xvda": "vol-root"}
    assert chosen(at(1.0, FREE, devices=mapping, young=True), slots=slots) == in_use(U)
    assert chosen(at(2.0, FREE, devices=mapping), slots=slots) == V, "it has had time enough"
    shown = volume("vol-9", ME)
    assert chosen(at(1.0, shown, devices=mapping, young=True)) == V
    assert chosen(at(1.0, OURS, devices=mapping, young=True)) == V, "of two that have it, one is shown"


def test_a_name_is_waited_for_from_when_nothing_shows_it() -> None:
    """The attachment ended, and the kernel still has the disk."""
    slots, names = Slots(), frozenset({"xvdu"})
    assert chosen(at(1.0, OURS, kernel=names), slots=slots) == V
    assert chosen(at(100.0, FREE, kernel=names), slots=slots) == in_use(U)
    assert chosen(at(99.0 + PATIENCE, FREE, kernel=names), slots=slots) == in_use(U)
    slots.conflict(U, 99.0 + PATIENCE)
    assert chosen(at(100.0 + PATIENCE, FREE, kernel=names), slots=slots) == in_use(U), "EC2 has just said so"
    assert chosen(at(99.0 + 2 * PATIENCE, FREE, kernel=names), slots=slots) == V


def test_a_name_that_ec2_refused_is_conflicting_from_the_last_time_on_and_not_for_ever() -> None:
    slots = Slots()
    slots.look(at(99.0, FREE))
    slots.conflict(U, 100.0)
    assert slots.choose("main") == in_use(U)
    assert chosen(at(99.0 + PATIENCE, FREE), slots=slots) == in_use(U)
    assert chosen(at(100.0 + PATIENCE, FREE), slots=slots) == V
    slots.conflict(U, 200.0)
    assert chosen(at(199.0 + CONFLICT_FOR, FREE), slots=slots) == V
    assert chosen(at(200.0 + CONFLICT_FOR, FREE), slots=slots) == U
    slots.conflict(U, 900.0)
    assert chosen(at(901.0, FREE, devices={U: "vol-by-hand"}), slots=slots) == V, "the mapping shows what has it"


def test_when_all_names_are_in_use_an_operator_must_act() -> None:
    mapping = dict.fromkeys(DEVICE_NAMES, "vol-by-hand")
    for key in ("main", "events"):
        found = chosen(at(0.0, FREE, devices=mapping), key)
        assert isinstance(found, Obstacle) and found.rule == NO_NAME
        assert found.reason.startswith("all device names are in use: /dev/xvdf, /dev/xvdg, ")
    del mapping[W]
    assert chosen(at(0.0, FREE, devices=mapping)) == chosen(at(0.0, FREE, devices=mapping), "events") == W


def test_names_that_the_kernel_does_not_tell_are_not_taken_for_free() -> None:
    slots, names = Slots(), frozenset({"xvdu"})
    chosen(at(1.0, kernel=names), slots=slots)
    unread = Obstacle("the device names in use aren't known: /sys/block: hangs")
    assert chosen(at(2.0, kernel=Unknown("/sys/block: hangs")), slots=slots) == unread
    assert chosen(at(1.0 + PATIENCE, kernel=names), slots=slots) == V, "what was known is kept"


# --- both together -------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def request(tracking: Tracking, volume_id: str, error: ProviderError | None = None) -> str:
    """One AttachVolume that ends with an error, or well; the device name."""
    with tracking.request(volume_id) as device:
        if error is not None:
            raise error
    return device


@pytest.mark.parametrize(
    ("error", "device"),
    [(None, U), (OutcomeUnknownError("no answer"), U), (VolumeInUseError("attached already"), None)],
    ids=["accepted", "unknown", "in use"],
)
def test_a_request_that_may_have_worked_is_unconfirmed(error: ProviderError | None, device: str | None) -> None:
    tracking = Tracking(clock := Clock())
    tracking.shown(at(100.0, FREE))
    if error is None:
        assert request(tracking, FREE.id) == U
    else:
        with pytest.raises(type(error)):
            request(tracking, FREE.id, error)
    clock.now += 10
    assert unconfirmed(tracking.shown(at(110.0, FREE))) == {FREE.id: device}
    assert tracking.shown(at(110.0, THEIRS)) == (THEIRS,)


@pytest.mark.parametrize("error", [VolumeDeniedError("another zone"), ProviderError("throttled")])
def test_a_request_that_failed_leaves_the_volume_free(error: ProviderError) -> None:
    tracking = Tracking(Clock())
    tracking.shown(at(100.0, FREE))
    with pytest.raises(ProviderError) as caught:
        request(tracking, FREE.id, error)
    assert caught.value is error
    assert tracking.shown(at(101.0, FREE)) == (FREE,)


def test_what_fell_back_is_denied_without_a_call() -> None:
    tracking = Tracking(clock := Clock())
    tracking.shown(at(100.0, FREE))
    request(tracking, FREE.id)
    clock.now += 1
    with pytest.raises(OutcomeUnknownError):
        request(tracking, FREE.id)
    assert unconfirmed(tracking.shown(at(101.0, FREE))) == {FREE.id: U}
    clock.now += LAG
    assert unconfirmed(tracking.shown(at(100.0 + LAG, FREE))) == {FREE.id: U}
    with pytest.raises(VolumeDeniedError, match="fell back"):
        request(tracking, FREE.id)
    assert tracking.shown(at(101.0 + LAG, FREE)) == (FREE,), "another one may be claimed"


def test_a_conflict_is_an_obstacle_to_the_volumes_of_its_etcd_cluster_alone() -> None:
    tracking = Tracking(Clock())
    main, other, events = FREE, volume("vol-2"), volume("vol-3", key="events")
    tracking.shown(at(100.0, main, other, events))
    with pytest.raises(DeviceConflictError):
        request(tracking, main.id, DeviceConflictError(U, "in use"))
    held = volume("vol-4", OTHER)
    shown = {one.id: one.obstacle for one in tracking.shown(at(101.0, main, other, events, held))}
    assert shown == {main.id: in_use(U), other.id: in_use(U), events.id: None, held.id: None}
    with pytest.raises(ProviderError, match=re.escape(f"EC2 AttachVolume {main.id}: {U} is in use")):
        request(tracking, main.id)
    assert tracking.shown(at(102.0 + PATIENCE, main)) == (main,)
    assert request(tracking, main.id) == V


def test_an_unconfirmed_volume_has_its_obstacle_too() -> None:
    """On a Xen instance its disk is there before EC2's answers show the attachment."""
    tracking = Tracking(Clock())
    tracking.shown(at(100.0, FREE))
    request(tracking, FREE.id)
    (shown,) = tracking.shown(at(101.0, FREE, kernel=frozenset({"xvdu"})))
    assert unconfirmed((shown,)) == {FREE.id: U} and shown.obstacle == in_use(U)


def test_a_volume_that_no_answer_has_shown_gets_no_name_of_main_or_events() -> None:
    assert request(Tracking(Clock()), "vol-9") == W
