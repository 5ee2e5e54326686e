"""When an owner is terminated, so that others may remove what it left."""

from __future__ import annotations

import pytest

from protokube.core.dns.owners import Absences, terminated_owners
from protokube.core.model import Unknown
from protokube.core.volumes.model import Peer, PeerState

ME = Peer("i-1", ("10.0.0.1",))
OTHER = Peer("i-2", ("10.0.0.2",))

Answers = list[tuple[float, tuple[Peer, ...] | Unknown]]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([(0, (ME,))], set()),
        ([(0, (ME,)), (599, (ME,))], set()),
        ([(0, (ME,)), (600, (ME,))], {"i-2"}),
        ([(0, (ME,)), (300, (ME, OTHER)), (700, (ME,))], set()),
        ([(0, (ME,)), (300, Unknown("throttled")), (700, (ME,))], {"i-2"}),
        ([(0, ()), (700, ())], set()),
        ([(0, ()), (700, (ME,))], set()),
        ([(0, (ME,)), (700, ())], set()),
        ([(0, (ME,)), (600, (ME,)), (700, Unknown("throttled"))], set()),
        ([(0, (ME,)), (600, (ME,)), (700, (ME, OTHER))], set()),
    ],
    ids=[
        "once",
        "too early",
        "long enough",
        "seen in between",
        "an error in between",
        "empty answers",
        "the first was empty",
        "the last was empty",
        "unknown now",
        "back again",
    ],
)
def test_absence_needs_two_answers_ten_minutes_apart_that_list_us(answers: Answers, expected: set[str]) -> None:
    absences = Absences()
    for now, peers in answers:
        absences = absences.seen(now, "i-1", peers, {"i-1", "i-2"})
    assert set(terminated_owners("i-1", answers[-1][1], absences.absent_for())) == expected


def test_the_cloud_itself_may_say_so() -> None:
    peers = (ME, Peer("i-2", (), state=PeerState.TERMINATED), Peer("i-3", (), state=PeerState.STOPPED))
    assert list(terminated_owners("i-1", peers, {})) == ["i-2"]


def test_this_machine_is_never_terminated() -> None:
    peers = (Peer("i-1", (), state=PeerState.TERMINATED),)
    assert terminated_owners("i-1", peers, {"i-1": 10_000.0}) == {}


def test_an_owner_whose_records_are_no_longer_there_is_forgotten() -> None:
    absences = Absences().seen(0, "i-1", (ME,), {"i-2"}).seen(600, "i-1", (ME,), set())
    assert absences.absent_for() == {}
