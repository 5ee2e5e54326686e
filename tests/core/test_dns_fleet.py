"""Five masters on one zone in memory, in 200 different orders of events."""

from __future__ import annotations

import pytest

from protokube.core.dns.names import Naming
from tests.lab.dns_fleet import NAMING, Fleet, five_masters
from tests.lab.dns_memory import MemoryDns, MemoryZone


def memory_fleet(size: int = 5) -> tuple[Fleet, MemoryZone]:
    zone = MemoryZone()
    return Fleet(size, lambda: MemoryDns(zone), zone.addresses), zone


@pytest.mark.parametrize("seed", range(200))
def test_every_name_ends_with_exactly_the_living_and_is_never_empty(seed: int) -> None:
    fleet, _ = memory_fleet()
    five_masters(fleet, seed)
    expected, found = fleet.expected(), fleet.addresses()
    lost = fleet.masters.keys() - set(fleet.living)
    orphans = {NAMING.member(one.cluster, one.me) for id_ in lost for one in fleet.masters[id_].members}
    assert {name: values for name, values in found.items() if name not in orphans} == expected


def test_a_converged_fleet_does_not_write() -> None:
    fleet, _ = memory_fleet()
    fleet.settle()
    writes = {id_: master.writes for id_, master in fleet.masters.items()}
    fleet.settle()
    assert {id_: master.writes for id_, master in fleet.masters.items()} == writes


def test_a_stopped_master_keeps_its_records() -> None:
    fleet, _ = memory_fleet(3)
    fleet.settle()
    fleet.masters["i-2"].up = False
    fleet.masters["i-2"].state = fleet.masters["i-2"].state.__class__("stopped")
    fleet.now += 10_000
    fleet.settle()
    assert "10.0.0.2" in fleet.addresses()[NAMING.api_internal]


def test_an_empty_answer_of_the_cloud_removes_nobody() -> None:
    fleet, _ = memory_fleet(3)
    fleet.settle()
    for master in fleet.masters.values():
        master.listed = False
    fleet.now += 10_000
    fleet.settle()
    assert len(fleet.addresses()[NAMING.api_internal]) == 6


def test_a_master_that_is_listed_again_in_time_keeps_its_records() -> None:
    fleet, _ = memory_fleet(3)
    fleet.settle()
    fleet.masters["i-3"].listed = False
    for _ in range(8):
        for id_ in ("i-1", "i-2"):
            fleet.step(id_)
            while id_ in fleet.reconciles:
                fleet.step(id_)
        fleet.now += 60
    fleet.masters["i-3"].listed = True
    fleet.settle()
    assert "10.0.0.3" in fleet.addresses()[NAMING.api_internal]


def test_removals_are_few_in_a_reconcile() -> None:
    fleet, zone = memory_fleet(9)
    fleet.settle()
    for id_ in ("i-2", "i-3", "i-4", "i-5", "i-6", "i-7", "i-8", "i-9"):
        fleet.die(id_, visibly=True)
    before = len(zone.records)
    fleet.step("i-1")
    while "i-1" in fleet.reconciles:
        fleet.step("i-1")
    assert before - len(zone.records) == 2


def test_names_are_spelled_as_kops_spells_them() -> None:
    naming = Naming("dev.example.com", ".internal.dev.example.com")
    assert naming.member("main", "a") == "etcd-a.internal.dev.example.com"
    assert naming.member("events", "a") == "etcd-events-a.internal.dev.example.com"
    assert naming.member("cilium", "a") == "etcd-cilium-a.internal.dev.example.com"
    assert naming.api_internal == "api.internal.dev.example.com"
    assert naming.api == "api.dev.example.com"
