"""Volumes on their way: what is waited for, when that has been long enough, and that a refusal goes by itself."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protokube.core.disks.actions import MountVolume
from protokube.core.disks.model import Disk, NoDisk
from protokube.core.history import History, Result
from protokube.core.model import Unknown
from protokube.core.observed import Observed
from protokube.core.steps import Plan
from protokube.core.volumes.actions import AttachVolume
from protokube.core.volumes.model import Attachment, AttachState, DiskIdentity
from protokube.core.volumes.tracking import DEADLINE, AttachTracking, Phase
from tests.core.states import TARGET, VOLUME, changed, ext4, kinds, mounted, planned, rules, state, volume

HINT = "no disk has the serial vol1"
LATE = NoDisk(HINT)


def on_its_way(phase: AttachState, uptime: float = 10.0) -> Observed:
    """A node whose volume is in a phase of its attachment."""
    return state(volumes=(volume(holder="n1", state=phase),), disks={}, uptime=uptime)


def without_disk(uptime: float = 10.0) -> Observed:
    """A node whose volume is attached, and has no disk."""
    return state(disks={VOLUME: LATE}, uptime=uptime)


def after(seconds: float, first: Observed, *between: Observed) -> Plan:
    """The plan for a snapshot that has looked the same for so long, except for those between."""
    history = History()
    for one in (first, *between):
        history = history.seen(one)
    return planned(changed(first, uptime=first.at.uptime + seconds), history)


def waiting(made: Plan) -> list[str]:
    return [one.reason for one in made.waiting if one.subject == VOLUME]


STUCK = [
    (on_its_way(AttachState.ATTACHING), "volume/attach-stuck", "attaching", ["/dev/xvdu", "detach"]),
    (on_its_way(AttachState.DETACHING), "volume/detach-stuck", "detaching", ["by force"]),
    (on_its_way(AttachState.BUSY), "volume/detach-stuck", "busy", ["by force"]),
    (without_disk(), "volume/no-disk", HINT, [HINT, "As soon as it appears"]),
]


@pytest.mark.parametrize(("first", "rule", "reason", "said"), STUCK)
def test_what_is_late_is_waited_for_and_what_is_stuck_refused(
    first: Observed, rule: str, reason: str, said: list[str]
) -> None:
    late = after(DEADLINE - 1, first)
    assert rules(late) == [] and [reason in one for one in waiting(late)] == [True]
    stuck = after(DEADLINE, first)
    assert rules(stuck) == [rule] and waiting(stuck) == [] and not stuck.converged
    (refusal,) = stuck.refusals
    assert all(words in refusal.evidence for words in (*said, f"{DEADLINE:.0f} s"))


def test_the_uptime_alone_is_no_reason() -> None:
    """A daemon that has run for days takes a volume."""
    for observed in (on_its_way(AttachState.ATTACHING, 1e6), without_disk(1e6)):
        assert rules(after(1, observed)) == []
        assert rules(planned(observed)) == [], "nothing is remembered"


def test_the_disk_that_comes_after_all_is_used() -> None:
    made = planned(state(ext4(), uptime=10 * DEADLINE), History().seen(without_disk()))
    assert rules(made) == [] and kinds(made) == ["mount-volume"]


def test_each_phase_has_a_time_of_its_own() -> None:
    history = History().seen(on_its_way(AttachState.ATTACHING))
    first = without_disk(10 + DEADLINE)
    assert rules(planned(first, history)) == []
    later = without_disk(10 + 2 * DEADLINE)
    assert rules(planned(later, history.seen(first))) == ["volume/no-disk"]


def test_detaching_and_busy_are_one_phase() -> None:
    first, busy = on_its_way(AttachState.DETACHING), on_its_way(AttachState.BUSY, 50.0)
    assert rules(after(DEADLINE, first, busy)) == ["volume/detach-stuck"]


def test_what_came_in_between_begins_again() -> None:
    assert rules(after(DEADLINE, without_disk(), state(ext4(), uptime=50.0))) == []
    assert rules(after(DEADLINE, on_its_way(AttachState.ATTACHING), state(volumes=(volume(),), uptime=50.0))) == []


@pytest.mark.parametrize(
    "unknown",
    [
        state(volumes=Unknown("throttled"), uptime=50.0),
        state(instance=Unknown("no answer"), uptime=50.0),
        state(disks={VOLUME: Unknown("hangs")}, uptime=50.0),
        state(disks={}, uptime=50.0),
    ],
)
def test_what_is_unknown_in_between_changes_nothing(unknown: Observed) -> None:
    assert rules(after(DEADLINE, without_disk(), unknown)) == ["volume/no-disk"]


def test_a_disk_that_cannot_be_read_is_not_one_that_never_came() -> None:
    unread = state(disks={VOLUME: Unknown("hangs")})
    assert rules(after(DEADLINE, unread)) == []
    assert rules(after(DEADLINE, without_disk(), changed(unread, uptime=50.0), state(uptime=60.0))) == []


def test_other_machines_attachments_are_not_followed() -> None:
    theirs = state(volumes=(volume(holder="n2", state=AttachState.ATTACHING),), disks={})
    assert after(DEADLINE, theirs).refusals == []


def test_a_mounted_volume_that_is_to_be_detached_says_what_holds_it() -> None:
    made = after(DEADLINE, changed(on_its_way(AttachState.BUSY), mounts=(mounted(),)))
    assert f"{TARGET} is mounted" in made.refusals[0].evidence and "force" not in made.refusals[0].evidence


def test_the_name_requested_is_our_own_attachments() -> None:
    """Beside another machine's attachment, which is just ending and listed first."""
    both = (
        Attachment("n2", "/dev/xvdf", AttachState.DETACHING),
        Attachment("n1", "/dev/xvdu", AttachState.ATTACHED),
    )
    serials = frozenset({"vol1"})
    given = replace(
        volume(), attachments=both, identity=DiskIdentity(serials, requested="/dev/xvdf"), status="in-use"
    )
    made = planned(state(volumes=(given,), disks={VOLUME: Disk("/dev/xvdu", (202, 1), given.size, ext4())}))
    (action,) = [one.action for one in made.steps if isinstance(one.action, MountVolume)]
    assert action.identity == DiskIdentity(serials, requested="/dev/xvdu")


def test_an_unconfirmed_attachment_is_not_on_its_way() -> None:
    """How long that lasts only the provider can tell."""
    shown = volume(holder="n1", state=AttachState.UNCONFIRMED, status="available")
    observed = state(volumes=(shown,), disks={})
    assert History().seen(observed).attachments.since == {} and after(DEADLINE, observed).refusals == []
    history = History().seen(on_its_way(AttachState.ATTACHING))
    assert history.seen(changed(observed, uptime=50.0)).attachments.since == {}


def test_what_was_first_seen_is_kept_and_the_rest_forgotten() -> None:
    cloud = on_its_way(AttachState.ATTACHING).cloud
    tracking = AttachTracking().seen(10.0, cloud, {}).seen(50.0, cloud, {})
    assert tracking == AttachTracking(50.0, {VOLUME: (Phase.ATTACHING, 10.0)})
    assert tracking.stuck(VOLUME, Phase.DETACHING) is tracking.stuck("vol-9", Phase.ATTACHING) is False
    assert tracking.seen(60.0, replace(cloud, volumes=()), {}).since == {}
    unknown = tracking.seen(60.0, replace(cloud, volumes=Unknown("throttled")), {})
    assert (unknown.since, unknown.uptime) == (tracking.since, 60.0)


# --- what came of requests ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "requested", "denied", "failed"),
    [
        (Result.DONE, True, False, False),
        (Result.UNCERTAIN, True, False, True),
        (Result.DENIED, False, True, True),
        (Result.FAILED, False, False, True),
        (Result.CONFLICT, False, False, False),
    ],
)
def test_what_came_of_a_request_is_remembered_for_this_reconcile(
    result: Result, requested: bool, denied: bool, failed: bool
) -> None:
    history = History().recorded(AttachVolume(VOLUME), result, 10.0)
    known = history.attachments
    assert (VOLUME in known.requested, VOLUME in known.denied, VOLUME in known.failed) == (requested, denied, failed)
    assert (VOLUME in history.failed) == failed
    assert history.next_reconcile() == History()


def test_the_next_reconcile_still_knows_since_when() -> None:
    history = History().seen(on_its_way(AttachState.ATTACHING)).next_reconcile()
    assert history.attachments.since == {VOLUME: (Phase.ATTACHING, 10.0)}
