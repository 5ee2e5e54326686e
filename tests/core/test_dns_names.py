"""Which names a node keeps."""

from __future__ import annotations

import pytest

from protokube.core.assess import assess
from protokube.core.dns.model import MemberNode, WantedRecords
from protokube.core.dns.names import Naming, member_nodes, wanted_records
from protokube.core.history import History
from protokube.core.model import Unknown
from protokube.core.node.model import Mount
from protokube.core.volumes.model import EtcdMember, Instance, Peer, PeerState
from tests.core.states import config_of, mounted, state

NAMING = Naming("c1.test", ".internal.c1.test")
MAIN_A = EtcdMember("main", "a", ("a", "b", "c"))
EVENTS_A = EtcdMember("events", "a", ("a", "b", "c"))
ME = Instance("i-1", "n1", "z", "c1.test", ("10.0.0.1", "10.0.0.99", "fd00::1"), ("198.51.100.1",))
B = MemberNode("i-2", ("10.0.0.2",), ("198.51.100.2",), frozenset({("main", "b"), ("events", "b")}))
C = MemberNode("i-3", ("10.0.0.3", "fd00::3"), (), frozenset({("main", "c")}))


def wanted(
    *,
    instance: Instance = ME,
    peers: tuple[MemberNode, ...] | Unknown = (B, C),
    ours: tuple[EtcdMember, ...] = (MAIN_A, EVENTS_A),
    mounted: tuple[EtcdMember, ...] = (MAIN_A, EVENTS_A),
    private: bool = False,
) -> WantedRecords:
    return wanted_records(NAMING, instance, peers, ours=ours, mounted=mounted, private=private)


def table(ours: WantedRecords) -> dict[tuple[str, str], tuple[str, ...]]:
    assert all(record.ttl == 60 for record in ours.records)
    return {(record.name.removesuffix(".c1.test"), record.type): record.values for record in ours.records}


def test_a_master_keeps_its_members_and_its_place_under_the_api_names() -> None:
    ours = wanted()
    assert table(ours) == {
        ("etcd-a.internal", "A"): ("10.0.0.1",),
        ("etcd-a.internal", "AAAA"): ("fd00::1",),
        ("etcd-events-a.internal", "A"): ("10.0.0.1",),
        ("etcd-events-a.internal", "AAAA"): ("fd00::1",),
        ("api.internal", "A"): ("10.0.0.1",),
        ("api.internal", "AAAA"): ("fd00::1",),
        ("api", "A"): ("198.51.100.1",),
    }
    assert {record.name for record in ours.records if record.shared} == {NAMING.api, NAMING.api_internal}
    assert {record.owner for record in ours.records} == {"i-1"}


def test_only_mounted_members_are_named() -> None:
    assert {name for name, _ in table(wanted(mounted=(MAIN_A,)))} == {"etcd-a.internal", "api.internal", "api"}


@pytest.mark.parametrize("volumes", [(), (EVENTS_A,)], ids=["standby", "events only"])
def test_masters_without_a_main_volume_write_nothing_for_others(volumes: tuple[EtcdMember, ...]) -> None:
    assert wanted(ours=volumes, mounted=volumes).records == ()


@pytest.mark.parametrize("volumes", [(), (EVENTS_A,)], ids=["standby", "events only"])
def test_a_standby_finds_the_others_api_servers_by_its_own_file(volumes: tuple[EtcdMember, ...]) -> None:
    assert table(wanted(private=True, ours=volumes, mounted=volumes)) == {
        ("api.internal", "A"): ("10.0.0.2", "10.0.0.3"),
        ("api.internal", "AAAA"): ("fd00::3",),
        ("api", "A"): ("198.51.100.2",),
    }
    assert wanted(private=True, ours=(MAIN_A,), mounted=()).records == (), "its own volume is mounted first"
    unknown = wanted(private=True, ours=(), mounted=(), peers=Unknown("throttled"))
    assert unknown.names == frozenset(), "nothing is taken out while the peers are unknown"


def test_a_standby_leaves_the_api_names_and_a_booting_master_does_not() -> None:
    assert wanted(ours=(), mounted=()).withdrawn == {NAMING.api, NAMING.api_internal}
    assert wanted(mounted=()).names == frozenset()


@pytest.mark.parametrize(
    ("mounts", "withdrawn"), [((), True), ((mounted(),), False), (Unknown("no mountinfo"), False)]
)
def test_nothing_is_withdrawn_while_a_mounted_volume_is_missing_from_the_answer(
    mounts: tuple[Mount, ...] | Unknown, withdrawn: bool
) -> None:
    judged = assess(config_of(dns="route53"), state(volumes=(), mounts=mounts), History())
    assert judged.dns is not None
    assert bool(judged.dns.names) == withdrawn


def test_a_master_without_an_external_address_has_no_place_under_the_public_name() -> None:
    inside = Instance("i-1", "n1", "z", "c1.test", ("10.0.0.1",))
    ours = wanted(instance=inside)
    assert ours.withdrawn == {NAMING.api}
    assert NAMING.api not in {record.name for record in ours.records}


def test_living_masters_are_the_running_holders_of_a_main_volume() -> None:
    stopped = MemberNode("i-4", ("10.0.0.4",), (), frozenset({("main", "d")}), PeerState.STOPPED)
    terminated = MemberNode("i-5", ("10.0.0.5",), (), frozenset({("main", "e")}), PeerState.TERMINATED)
    events = MemberNode("i-6", ("10.0.0.6",), (), frozenset({("events", "f")}))
    control_plane = wanted(peers=(B, C, stopped, terminated, events)).control_plane
    assert not isinstance(control_plane, Unknown)
    assert {record.owner for record in control_plane} == {"i-1", "i-2", "i-3"}
    assert all(record.shared for record in control_plane)
    assert wanted(peers=Unknown("throttled")).control_plane == Unknown("throttled")


def test_a_private_provider_holds_everybody() -> None:
    ours = wanted(private=True)
    assert table(ours) == {
        ("etcd-a.internal", "A"): ("10.0.0.1",),
        ("etcd-a.internal", "AAAA"): ("fd00::1",),
        ("etcd-events-a.internal", "A"): ("10.0.0.1",),
        ("etcd-events-a.internal", "AAAA"): ("fd00::1",),
        ("etcd-b.internal", "A"): ("10.0.0.2",),
        ("etcd-events-b.internal", "A"): ("10.0.0.2",),
        ("etcd-c.internal", "A"): ("10.0.0.3",),
        ("etcd-c.internal", "AAAA"): ("fd00::3",),
        ("api.internal", "A"): ("10.0.0.1", "10.0.0.2", "10.0.0.3"),
        ("api.internal", "AAAA"): ("fd00::1", "fd00::3"),
        ("api", "A"): ("198.51.100.1", "198.51.100.2"),
    }
    assert {record.owner for record in ours.records} == {"i-1"}


def test_a_private_provider_prefers_ourselves_then_the_running() -> None:
    stale = MemberNode("i-0", ("10.0.0.7",), (), frozenset({("main", "a"), ("main", "b")}), PeerState.STOPPED)
    found = table(wanted(private=True, peers=(stale, B)))
    assert found["etcd-a.internal", "A"] == ("10.0.0.1",)
    assert found["etcd-b.internal", "A"] == ("10.0.0.2",)


def test_a_private_provider_forgets_who_is_terminated_and_keeps_who_is_stopped() -> None:
    terminated = MemberNode("i-2", ("10.0.0.2",), (), frozenset({("main", "b")}), PeerState.TERMINATED)
    stopped = MemberNode("i-3", ("10.0.0.3",), (), frozenset({("main", "c")}), PeerState.STOPPED)
    found = table(wanted(private=True, peers=(terminated, stopped)))
    assert ("etcd-b.internal", "A") not in found
    assert found["etcd-c.internal", "A"] == ("10.0.0.3",)
    assert found["api.internal", "A"] == ("10.0.0.1", "10.0.0.3")


def test_a_private_provider_knows_itself_when_the_peers_cannot_be_seen() -> None:
    found = table(wanted(private=True, peers=Unknown("throttled")))
    assert found["etcd-a.internal", "A"] == ("10.0.0.1",)
    assert ("etcd-b.internal", "A") not in found


def test_peers_are_joined_with_what_is_attached_to_them() -> None:
    peers = [Peer("i-2", ("10.0.0.2",)), Peer("i-1", ("10.0.0.1",), members={"main": "a"})]
    joined = member_nodes(peers, {"i-2": [EtcdMember("main", "b", ("a", "b"))], "i-9": []})
    assert [(one.instance, one.members) for one in joined] == [
        ("i-1", frozenset({("main", "a")})),
        ("i-2", frozenset({("main", "b")})),
    ]


def test_the_names_of_all_members_are_known_before_they_are_there() -> None:
    expected = ("etcd-events-a.internal.c1.test", "etcd-events-b.internal.c1.test", "etcd-events-c.internal.c1.test")
    assert NAMING.members(EVENTS_A) == expected
