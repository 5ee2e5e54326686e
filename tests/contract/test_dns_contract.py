"""What every place for names must do, whatever it is: a hosts file, a real BIND, a strict Route 53."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from protokube.core.dns.changes import RecordDecision, RecordPolicy, decide_records
from protokube.core.dns.model import (
    PLACEHOLDERS,
    ChangeKind,
    OwnedRecord,
    RecordChange,
    RecordType,
    UnmanagedRecord,
    WantedRecord,
    WantedRecords,
)
from protokube.core.model import Unknown
from protokube.errors import ProviderError
from protokube.ports import DNSProvider
from tests.contract.dns_backends import PLACES, SERVERS, SUFFIX, ZONE, Backend, Server

pytestmark = pytest.mark.root

API = f"api{SUFFIX}"
ETCD = f"etcd-a{SUFFIX}"


@pytest.fixture(params=SERVERS)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with SERVERS[request.param](tmp_path, monkeypatch) as backend:
        yield backend


@pytest.fixture(params=PLACES)
def anywhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    with PLACES[request.param](tmp_path, monkeypatch) as backend:
        yield backend


def put(
    name: str, *values: str, owner: str = "i-1", type_: RecordType = "A", adopts: tuple[UnmanagedRecord, ...] = ()
) -> RecordChange:
    return RecordChange(ChangeKind.UPSERT, name, type_, values, 60, owner, name.startswith("api"), adopts=adopts)


def drop(name: str, *before: str, owner: str = "i-1", type_: RecordType = "A") -> RecordChange:
    return RecordChange(ChangeKind.DELETE, name, type_, (), 60, owner, name.startswith("api"), before)


def owned(provider: DNSProvider, name: str) -> set[OwnedRecord]:
    return set(provider.record_sets(frozenset({name}))[name].owned)


def record(provider: DNSProvider, type_: RecordType, *values: str, owner: str = "i-1") -> OwnedRecord:
    """A record as the provider shows it: a hosts file doesn't know who wrote."""
    return OwnedRecord(type_, values, 60, None if provider.private else owner)


def keeps(
    *records: tuple[str, str], owner: str = "i-1", control_plane: tuple[WantedRecord, ...] = ()
) -> WantedRecords:
    wanted = tuple(
        WantedRecord(name, "AAAA" if ":" in value else "A", (value,), name.startswith("api"), owner)
        for name, value in records
    )
    return WantedRecords(
        owner, records=wanted, control_plane=control_plane or tuple(one for one in wanted if one.shared)
    )


def converge(provider: DNSProvider, desired: WantedRecords, *, adopt: bool = False) -> RecordDecision:
    """Reconcile until nothing is left to change; the last plan."""
    desired = replace(desired, private=provider.private)
    for _ in range(3):
        plan = decide_records(desired, provider.record_sets(desired.names), RecordPolicy(removals=3, adopt=adopt))
        if not plan.batches:
            return plan
        for batch in plan.batches:
            provider.change(batch.changes)
    raise AssertionError(f"never converges: {plan}")


@pytest.mark.parametrize("name", [API, ETCD])
def test_a_name_that_no_node_filled_is_empty(place: Server, name: str) -> None:
    found = place.provider().record_sets(frozenset({name}))[name]
    assert (found.owned, found.unmanaged, found.refusal) == ((), (), None)


@pytest.mark.parametrize("name", [API, ETCD])
def test_adds_both_families_and_says_whose_they_are(anywhere: Backend, name: str) -> None:
    provider = anywhere.provider()
    provider.change([put(name, "10.0.0.1"), put(name, "fd00::1", type_="AAAA")])
    assert anywhere.values(name, "A") == {"10.0.0.1"}
    assert anywhere.values(name, "AAAA") == {"fd00::1"}
    expected = {record(provider, "A", "10.0.0.1"), record(provider, "AAAA", "fd00::1")}
    assert owned(provider, name) == expected


@pytest.mark.parametrize("name", [API, ETCD])
def test_replaces_an_address_in_one_step(anywhere: Backend, name: str) -> None:
    provider = anywhere.provider()
    provider.change([put(name, "10.0.0.1")])
    provider.change([put(name, "10.0.0.7")])
    assert anywhere.values(name, "A") == {"10.0.0.7"}
    assert owned(provider, name) == {record(provider, "A", "10.0.0.7")}


@pytest.mark.parametrize("name", [API, ETCD])
def test_removes_what_it_wrote_and_leaves_no_trace(anywhere: Backend, name: str) -> None:
    provider = anywhere.provider()
    provider.change([put(name, "10.0.0.1")])
    provider.change([drop(name, "10.0.0.1")])
    assert anywhere.values(name, "A") == set()
    assert anywhere.values(f"_protokube.{name}", "TXT") == set()
    assert owned(provider, name) == set()


@pytest.mark.parametrize("name", [API, ETCD])
def test_every_change_may_be_repeated(anywhere: Backend, name: str) -> None:
    provider = anywhere.provider()
    for changes in ([put(name, "10.0.0.1")], [drop(name, "10.0.0.1")]):
        provider.change(changes)
        once = owned(provider, name)
        provider.change(changes)
        assert owned(provider, name) == once


def test_several_owners_share_a_name_and_each_changes_its_own(place: Server) -> None:
    one, two, three = (place.provider() for _ in range(3))
    one.change([put(API, "10.0.0.1", owner="i-1")])
    two.change([put(API, "10.0.0.2", owner="i-2")])
    three.change([put(API, "10.0.0.3", owner="i-3")])
    two.change([put(API, "10.0.0.9", owner="i-2")])
    three.change([drop(API, "10.0.0.1", owner="i-1")])
    assert place.values(API, "A") == {"10.0.0.9", "10.0.0.3"}
    assert owned(one, API) == {
        OwnedRecord("A", ("10.0.0.9",), 60, "i-2"),
        OwnedRecord("A", ("10.0.0.3",), 60, "i-3"),
    }


def test_an_address_that_two_owners_claim_stays_until_both_are_gone(place: Server) -> None:
    provider = place.provider()
    provider.change([put(API, "10.0.0.1", owner="i-1")])
    provider.change([put(API, "10.0.0.1", owner="i-2")])
    provider.change([drop(API, "10.0.0.1", owner="i-1")])
    assert place.values(API, "A") == {"10.0.0.1"}
    assert owned(provider, API) == {OwnedRecord("A", ("10.0.0.1",), 60, "i-2")}


def test_a_removal_touches_only_what_was_seen(place: Server) -> None:
    provider = place.provider()
    provider.change([put(API, "10.0.0.1", owner="i-1"), put(API, "10.0.0.2", owner="i-2")])
    provider.change([put(API, "10.0.0.8", owner="i-2")])
    provider.change([drop(API, "10.0.0.2", owner="i-2")])
    assert place.values(API, "A") == {"10.0.0.1", "10.0.0.8"}


def test_the_next_holder_of_a_member_takes_its_name_over(place: Server) -> None:
    place.provider().change([put(ETCD, "10.0.0.1", owner="i-1")])
    place.provider().change([put(ETCD, "10.0.0.2", owner="i-2")])
    assert place.values(ETCD, "A") == {"10.0.0.2"}
    assert owned(place.provider(), ETCD) == {OwnedRecord("A", ("10.0.0.2",), 60, "i-2")}


@pytest.mark.parametrize("name", [API, ETCD])
@pytest.mark.parametrize("drift", ["removed", "changed", "unsigned"])
def test_repairs_drift_of_its_own_names(anywhere: Backend, name: str, drift: str) -> None:
    provider = anywhere.provider()
    desired = keeps((name, "10.0.0.1"))
    converge(provider, desired)
    if drift == "removed":
        anywhere.outsider_removes(name, "A")
    elif drift == "changed":
        anywhere.outsider_puts(name, "A", "192.0.2.1")
    else:
        anywhere.outsider_removes(f"_protokube.{name}", "TXT")
    converge(provider, desired, adopt=drift == "changed" and name == API)
    assert anywhere.values(name, "A") == {"10.0.0.1"}
    assert owned(provider, name) == {record(provider, "A", "10.0.0.1")}


@pytest.mark.parametrize("name", [API, ETCD])
@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1"])
def test_replaces_a_placeholder_without_being_told(anywhere: Backend, name: str, address: str) -> None:
    family: RecordType = "AAAA" if ":" in address else "A"
    anywhere.outsider_puts(name, family, PLACEHOLDERS[family])
    plan = converge(anywhere.provider(), keeps((name, address)))
    assert plan.refusals == ()
    assert anywhere.values(name, family) == {address}


@pytest.mark.parametrize("name", [API, ETCD])
@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1"])
@pytest.mark.parametrize("late", [False, True], ids=["with-ours", "after-ours"])
def test_a_placeholder_of_the_other_family_goes_with_ours(place: Server, name: str, address: str, late: bool) -> None:
    """A node has addresses of one family, and the name's placeholders are of both."""
    provider, desired = place.provider(), keeps((name, address))
    if late:
        converge(provider, desired)
    mine: RecordType = "AAAA" if ":" in address else "A"
    for family, placeholder in PLACEHOLDERS.items():
        if not late or family != mine:
            place.outsider_puts(name, family, placeholder)
    provider.record_sets(desired.names)
    assert converge(provider, desired).refusals == ()
    assert place.values(name, "A") | place.values(name, "AAAA") == {address}


@pytest.mark.parametrize("spelling", [PLACEHOLDERS["AAAA"], "FD00:DEAD:0ADD:0:0:0:0:0"])
@pytest.mark.parametrize("name", [API, ETCD])
def test_a_placeholder_is_read_in_its_one_spelling(anywhere: Backend, name: str, spelling: str) -> None:
    anywhere.outsider_puts(name, "AAAA", spelling)
    found = anywhere.provider().record_sets(frozenset({name}))[name]
    assert [one.values for one in found.owned] + [one.values for one in found.unmanaged] == [(PLACEHOLDERS["AAAA"],)]


@pytest.mark.parametrize("name", [API, ETCD])
def test_a_placeholder_of_the_other_family_goes_in_the_batch_that_writes_ours(place: Server, name: str) -> None:
    place.outsider_puts(name, "AAAA", PLACEHOLDERS["AAAA"])
    place.outsider_puts(name, "A", PLACEHOLDERS["A"])
    seen = tuple(
        UnmanagedRecord(type_, (value,), "a placeholder")
        for type_, value in (("A", PLACEHOLDERS["A"]), ("AAAA", PLACEHOLDERS["AAAA"]))
    )
    provider = place.provider()
    provider.change([put(name, "10.0.0.1", adopts=seen)])
    assert (place.values(name, "A"), place.values(name, "AAAA")) == ({"10.0.0.1"}, set())
    assert owned(provider, name) == {OwnedRecord("A", ("10.0.0.1",), 60, "i-1")}


@pytest.mark.parametrize("name", [API, ETCD])
def test_an_address_that_is_no_longer_the_placeholder_stays(place: Server, name: str) -> None:
    place.outsider_puts(name, "AAAA", "2001:db8::7")
    replaced = UnmanagedRecord("AAAA", (PLACEHOLDERS["AAAA"],), "a placeholder")
    place.provider().change([put(name, "10.0.0.1", adopts=(replaced,))])
    assert (place.values(name, "A"), place.values(name, "AAAA")) == ({"10.0.0.1"}, {"2001:db8::7"})


WILDCARDS = {"A": "192.0.2.9", "AAAA": "2001:db8::9", "CNAME": f"lb.{ZONE}.", "TXT": '"anything"'}


@pytest.mark.parametrize("name", [API, ETCD])
@pytest.mark.parametrize("kind", WILDCARDS)
@pytest.mark.parametrize("above", [SUFFIX, f".{ZONE}"])
def test_a_wildcard_does_not_keep_ours_out(place: Server, name: str, kind: str, above: str) -> None:
    """Nothing stands at the name itself, whatever is answered for it (RFC 4592)."""
    place.outsider_puts(f"*{above}", kind, WILDCARDS[kind])
    provider = place.provider()
    found = provider.record_sets(frozenset({name}))[name]
    assert (found.owned, found.unmanaged, found.refusal) == ((), (), None)
    assert converge(provider, keeps((name, "10.0.0.1"))).refusals == ()
    assert place.values(name, "A") == {"10.0.0.1"}
    provider.change([put(name, "10.0.0.2"), put(name, "fd00::2", type_="AAAA")])
    provider.change([drop(name, "10.0.0.2"), drop(name, "fd00::2", type_="AAAA")])
    assert place.provider().record_sets(frozenset({name}))[name].owned == ()
    assert place.values(f"*{above}", kind) == {WILDCARDS[kind]}


def test_an_address_of_its_own_beneath_a_wildcard_is_real(place: Server) -> None:
    """Even where it is the wildcard's address."""
    for name in (f"*{SUFFIX}", API):
        place.outsider_puts(name, "A", "192.0.2.9")
    found = place.provider().record_sets(frozenset({API}))[API]
    assert [one.values for one in found.owned] == [("192.0.2.9",)]


@pytest.mark.parametrize("cut", [API, SUFFIX[1:]])
def test_a_name_at_or_below_a_zone_cut_is_refused_and_stops_no_other(place: Server, cut: str) -> None:
    """No resolver looks for it there. The record that makes the cut is named."""
    place.outsider_puts(cut, "NS", "ns.elsewhere.test.")
    public = f"api.{ZONE}"
    provider = place.provider()
    plan = converge(provider, keeps((API, "10.0.0.1"), (public, "192.0.2.1")))
    ((subject, rule, evidence),) = plan.refusals
    assert (subject, rule) == (API, "dns/delegated")
    assert f"zone {ZONE} holds {cut} NS ns.elsewhere.test" in evidence
    assert place.values(public, "A") == {"192.0.2.1"}
    place.outsider_removes(cut, "NS")
    assert converge(provider, keeps((API, "10.0.0.1"))).refusals == ()
    assert place.values(API, "A") == {"10.0.0.1"}


def test_a_cut_that_is_made_later_is_seen(place: Server) -> None:
    provider = place.provider()
    converge(provider, keeps((API, "10.0.0.1")))
    place.outsider_puts(SUFFIX[1:], "NS", "ns.elsewhere.test.")
    found = provider.record_sets(frozenset({API}))[API]
    assert found.refusal is not None and found.refusal[0] == "dns/delegated"


def test_a_second_master_replaces_a_placeholder_that_the_first_one_has_replaced(place: Server) -> None:
    place.outsider_puts(API, "A", PLACEHOLDERS["A"])
    seen = UnmanagedRecord("A", (PLACEHOLDERS["A"],), "addresses that no owner is recorded for")
    for owner, address in (("i-1", "10.0.0.1"), ("i-2", "10.0.0.2")):
        place.provider().change([put(API, address, owner=owner, adopts=(seen,))])
    assert place.values(API, "A") == {"10.0.0.1", "10.0.0.2"}


@pytest.mark.parametrize("name", [API, ETCD])
def test_an_alias_is_left_alone_until_it_is_given_up(place: Server, name: str) -> None:
    place.outsider_aliases(name)
    provider = place.provider()
    desired = keeps((name, "10.0.0.1"), (f"etcd-b{SUFFIX}", "10.0.0.1"))
    ((subject, rule, evidence),) = converge(provider, desired).refusals
    assert (subject, rule) == (name, "dns/foreign")
    assert f"lb.{ZONE}" in evidence
    assert provider.record_sets(frozenset({name}))[name].unmanaged
    assert place.values(f"etcd-b{SUFFIX}", "A") == {"10.0.0.1"}
    assert converge(provider, desired, adopt=True).refusals == ()
    assert place.values(name, "A") == {"10.0.0.1"}
    assert owned(provider, name) == {OwnedRecord("A", ("10.0.0.1",), 60, "i-1")}


def test_what_others_wrote_is_exchanged_for_every_living_master_at_once(place: Server) -> None:
    place.outsider_puts(API, "A", "192.0.2.1", "192.0.2.2")
    control_plane = tuple(WantedRecord(API, "A", (f"10.0.0.{i}",), True, f"i-{i}") for i in (1, 2, 3))
    desired = keeps((API, "10.0.0.1"), control_plane=control_plane)
    plan = decide_records(desired, place.provider().record_sets(desired.names), RecordPolicy(removals=3))
    assert [refusal[1] for refusal in plan.refusals] == ["dns/foreign"]
    converge(place.provider(), desired, adopt=True)
    assert place.values(API, "A") == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


def test_adopting_waits_until_the_masters_can_be_seen(place: Server) -> None:
    place.outsider_puts(API, "A", "192.0.2.1")
    wanted = WantedRecord(API, "A", ("10.0.0.1",), True, "i-1")
    blind = WantedRecords("i-1", records=(wanted,), control_plane=Unknown("throttled"))
    plan = converge(place.provider(), blind, adopt=True)
    assert [name for name, _ in plan.waiting] == [API]
    assert place.values(API, "A") == {"192.0.2.1"}


def test_other_records_of_the_zone_stay(anywhere: Backend) -> None:
    anywhere.outsider_puts(f"www.{ZONE}", "A", "192.0.2.80")
    anywhere.outsider_puts(f"extra.{API}", "A", "192.0.2.81")
    converge(anywhere.provider(), keeps((API, "10.0.0.1"), (ETCD, "10.0.0.1")))
    anywhere.provider().change([drop(API, "10.0.0.1")])
    assert anywhere.values(f"www.{ZONE}", "A") == {"192.0.2.80"}
    assert anywhere.values(f"extra.{API}", "A") == {"192.0.2.81"}


def test_a_name_without_a_zone_is_refused_and_stops_no_other(place: Server) -> None:
    provider = place.provider()
    outside = "api.elsewhere.test"
    plan = converge(provider, keeps((outside, "10.0.0.1"), (ETCD, "10.0.0.1")))
    assert [refusal[:2] for refusal in plan.refusals] == [(outside, "dns/no-zone")]
    assert place.values(ETCD, "A") == {"10.0.0.1"}
    with pytest.raises(ProviderError, match=f"{outside}.*no-zone"):
        provider.change([put(outside, "10.0.0.1")])


def test_wrong_credentials_are_explained(place: Server) -> None:
    provider, expected = place.with_wrong_credentials()
    with pytest.raises(ProviderError, match=f"(?s){expected}.*(compare|check)"):
        provider.record_sets(frozenset({API}))


def test_a_place_that_is_down_is_an_error_and_then_comes_back(place: Server) -> None:
    provider = place.provider()
    provider.change([put(API, "10.0.0.1")])
    place.down()
    with pytest.raises(ProviderError):
        provider.record_sets(frozenset({API}))
    place.up()
    assert owned(provider, API) == {OwnedRecord("A", ("10.0.0.1",), 60, "i-1")}


@pytest.mark.slow
def test_silence_ends_with_an_error(place: Server) -> None:
    provider = place.silent()
    with pytest.raises(ProviderError, match=r"(?i)time|no answer"):
        provider.record_sets(frozenset({API}))
