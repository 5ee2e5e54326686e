"""For how long something has been so: volumes that hide, device names in use, answers of peers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pytest
from msgspec.structs import replace

from protokube.core.etcd.model import PeerAnswers
from protokube.core.model import Unknown
from protokube.core.observed import Observed
from protokube.core.volumes.model import CloudVolume, Instance
from protokube.core.volumes.sightings import CONFLICT_FOR, HIDDEN_FOR, Sightings
from tests.core.states import INSTANCE, state, volume

FREE, OURS, THEIRS = volume(), volume(holder="n1"), volume(holder="n2")


def at(
    uptime: float,
    *volumes: CloudVolume,
    instance: Instance | Unknown = INSTANCE,
    kernel_devices: frozenset[str] | Unknown = frozenset(),
    members: Mapping[str, PeerAnswers | Unknown] = MappingProxyType({}),
) -> Observed:
    return state(uptime=uptime, volumes=volumes, instance=instance, kernel_devices=kernel_devices, members=members)


def test_what_was_asked_for_hides_until_it_is_shown_or_long_ago() -> None:
    sightings = Sightings()
    sightings.asked(FREE.id, 100.0)
    assert sightings.hidden(at(101.0, FREE)) == sightings.hidden(at(102.0)) == {FREE.id}
    assert sightings.hidden(at(103.0, OURS)) == frozenset()
    assert sightings.hidden(at(103.0 + HIDDEN_FOR - 1, FREE)) == {FREE.id}, "since it was last shown as ours"
    assert sightings.hidden(at(103.0 + HIDDEN_FOR, FREE)) == frozenset()


def test_what_another_got_or_the_cloud_refuses_hides_no_more() -> None:
    sightings = Sightings()
    sightings.asked(FREE.id, 100.0)
    assert sightings.hidden(at(101.0, THEIRS)) == frozenset()
    assert sightings.hidden(at(102.0, FREE)) == frozenset(), "the other gave it up"
    sightings.asked(FREE.id, 103.0)
    sightings.refused(FREE.id)
    assert sightings.hidden(at(104.0, FREE)) == frozenset()


def test_what_the_instances_own_description_shows_hides_as_well() -> None:
    """A daemon before us asked for it, and was killed."""
    told = replace(INSTANCE, attached=frozenset({FREE.id, "vol-root"}))
    assert Sightings().hidden(at(1.0, FREE, instance=told)) == {FREE.id}
    assert Sightings().hidden(at(1.0, OURS, instance=told)) == frozenset()


@pytest.mark.parametrize(
    "unseen",
    [at(101.0, instance=Unknown("throttled")), replace(at(101.0), volumes=Unknown("throttled"))],
    ids=["instance", "volumes"],
)
def test_of_what_is_unknown_nothing_hides(unseen: Observed) -> None:
    sightings = Sightings()
    sightings.asked(FREE.id, 100.0)
    assert sightings.hidden(unseen) == frozenset()
    assert sightings.hidden(at(102.0, FREE)) == {FREE.id}


def test_a_name_that_the_cloud_refused_is_taken_from_the_last_time_on_and_not_for_ever() -> None:
    sightings = Sightings()
    sightings.conflict("/dev/xvdu", 100.0)
    assert sightings.taken_devices(at(110.0)) == {"/dev/xvdu": 10.0}
    sightings.conflict("/dev/xvdu", 120.0)
    assert sightings.taken_devices(at(130.0)) == {"/dev/xvdu": 10.0}
    assert sightings.taken_devices(at(120.0 + CONFLICT_FOR)) == {}


def test_names_that_nothing_shown_explains_are_taken_since_they_were_first_seen() -> None:
    names = ("/dev/xvdu", "/dev/xvdv")
    known = replace(INSTANCE, device_names=names, doubtful_devices=frozenset({"/dev/xvdv"}))
    kernel = frozenset({"/dev/xvda", "/dev/xvdu"})
    sightings = Sightings()
    assert sightings.taken_devices(at(1.0, instance=known, kernel_devices=kernel)) == dict.fromkeys(names, 0.0)
    assert sightings.taken_devices(at(5.0, instance=known, kernel_devices=kernel)) == dict.fromkeys(names, 4.0)
    assert sightings.taken_devices(at(6.0, instance=known, kernel_devices=Unknown("x"))) == dict.fromkeys(names, 5.0)
    shown = replace(known, used_devices=frozenset(names))
    assert sightings.taken_devices(at(7.0, instance=shown, kernel_devices=kernel)) == {}


def test_answers_count_from_the_youngest_of_those_who_answer() -> None:
    sightings = Sightings()

    def age(uptime: float, **lists: tuple[object, ...]) -> float:
        answers = PeerAnswers(lists)  # type: ignore[arg-type]
        return sightings.answers_for(at(uptime, members={"main": answers}))["main"]

    assert [age(10.0, b=()), age(12.0, b=())] == [0.0, 2.0]
    assert [age(13.0, b=(), c=()), age(15.0, b=(), c=())] == [0.0, 2.0], "c is new"
    assert [age(16.0, b=()), age(17.0, b=(), c=())] == [6.0, 4.0], "silence is no change"
    assert [age(18.0, b=("other",)), age(20.0, b=("other",))] == [0.0, 2.0]
    assert sightings.answers_for(at(30.0, members={"main": Unknown("nobody")})) == {"main": 0.0}
