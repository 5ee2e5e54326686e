"""Route 53's own ways: pages, records of other policies, and its errors explained."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from protokube import awsclient
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
from protokube.dnsprovider import route53 as route53_module
from protokube.dnsprovider.route53 import PAGE, Route53
from protokube.errors import ProviderError
from tests.adapters.route53_names import API, ETCD, PUBLIC, SUFFIX, provider, put
from tests.lab.route53 import Fault, Route53Server

ADDRESSES: tuple[tuple[RecordType, str], ...] = (("A", "10.0.0.1"), ("AAAA", "fd00::1"))
CAREFUL, ADOPTING = RecordPolicy(removals=1), RecordPolicy(removals=1, adopt=True)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Route53Server]:
    with Route53Server() as server:
        server.environment(monkeypatch)
        yield server


def zones(server: Route53Server, route53: Route53, *names: str) -> dict[str, str]:
    """The zone that each name lies in, by where a change of it ends up; nothing is left behind."""
    route53.change([put(name, "192.0.2.99") for name in names])
    found = {
        name: zone
        for name in names
        for zone in server.backend.zones
        for record in server.records(zone)
        if (record["Name"], record["ResourceRecords"]) == (f"{name}.", ["192.0.2.99"])
    }
    for name, zone in found.items():
        server.remove(zone, name, "A")
    return found


# --- calls ---


def test_a_bootstrap_with_two_clusters_makes_six_calls(server: Route53Server) -> None:
    """Internal and external names, in a private and a public zone; their placeholders make none more."""
    public, private = server.create_zone("c1.test"), server.create_zone("c1.test", vpc="vpc-1")
    server.put(private, API, "A", PLACEHOLDERS["A"])
    server.put(public, PUBLIC, "A", PLACEHOLDERS["A"])
    events, route53 = f"etcd-events-a{SUFFIX}", provider()
    wanted = tuple(
        WantedRecord(name, "A", (value,), name.startswith("api"), "i-1")
        for name, value in {API: "10.0.0.1", ETCD: "10.0.0.1", events: "10.0.0.1", PUBLIC: "192.0.2.1"}.items()
    )
    desired = WantedRecords("i-1", records=wanted, control_plane=tuple(one for one in wanted if one.shared))
    (batch,) = decide_records(desired, route53.record_sets(desired.names), CAREFUL).batches
    route53.change(batch.changes)
    assert decide_records(desired, route53.record_sets(desired.names), CAREFUL) == RecordDecision()
    assert server.calls == {
        "ListHostedZonesByName": 1,
        "ListHostedZonesByVPC": 1,
        "ListResourceRecordSets": 2,
        "ChangeResourceRecordSets": 2,
    }
    for zone, name in ((private, API), (private, events), (public, PUBLIC)):
        assert f"{name}." in [one["Name"] for one in server.records(zone) if one["Type"] == "A"]
    later = decide_records(desired, provider().record_sets(desired.names), CAREFUL)
    assert later == RecordDecision(), "another process sees the same"


def test_members_whose_volumes_are_mounted_one_after_the_other_make_no_call_more_than_their_changes(
    server: Route53Server,
) -> None:
    server.create_zone("c1.test")
    events, route53 = f"etcd-events-a{SUFFIX}", provider()
    for names in ({ETCD, API}, {events}):
        route53.record_sets(frozenset(names))
        route53.change([put(name, "10.0.0.1") for name in names])
    found = route53.record_sets(frozenset({ETCD, API, events}))
    assert {one.owner for there in found.values() for one in there.owned} == {"i-1"}
    assert server.calls == {
        "ListHostedZonesByName": 1,
        "ListHostedZonesByVPC": 1,
        "ListResourceRecordSets": 1,
        "ChangeResourceRecordSets": 2,
    }


def test_names_far_apart_in_a_large_zone_never_cost_more_than_one_by_one(server: Route53Server) -> None:
    """Between api and internal lie thousands of hosts; they are passed over."""
    server.fill(server.create_zone("c1.test"), 10 * PAGE)
    route53 = provider(inside=False)
    route53.change([put(PUBLIC, "192.0.2.1"), put(API, "10.0.0.1"), put(ETCD, "10.0.0.1")])
    found = route53.record_sets(frozenset({PUBLIC, API, ETCD}))
    assert all(there.owned for there in found.values())
    assert server.calls["ListResourceRecordSets"] == 2


def test_no_names_no_call(server: Route53Server) -> None:
    assert provider().record_sets(frozenset()) == {}
    assert not server.calls


def test_what_was_written_serves_the_next_reading_and_no_other(server: Route53Server) -> None:
    zone = server.create_zone("c1.test")
    route53 = provider()
    route53.record_sets(frozenset({API}))
    route53.change([put(API, "10.0.0.1")])
    server.remove(zone, API, "A")
    assert route53.record_sets(frozenset({API}))[API].owned == (OwnedRecord("A", ("10.0.0.1",), 60, "i-1"),)
    assert route53.record_sets(frozenset({API}))[API].owned == (), "drift is seen with the next reading"


def test_what_was_read_a_while_ago_serves_nothing(server: Route53Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route53_module, "FRESH", 0.0)
    zone = server.create_zone("c1.test")
    route53 = provider()
    route53.record_sets(frozenset({API}))
    route53.change([put(API, "10.0.0.1")])
    server.remove(zone, API, "A")
    assert route53.record_sets(frozenset({API}))[API].owned == ()


def test_a_failed_write_serves_no_reading(server: Route53Server) -> None:
    server.create_zone("c1.test")
    route53 = provider()
    route53.record_sets(frozenset({API}))
    server.faults.append(Fault("ServiceUnavailable", 503))
    with pytest.raises(ProviderError):
        route53.change([put(API, "10.0.0.1")])
    assert route53.record_sets(frozenset({API}))[API].owned == ()
    assert server.calls["ListResourceRecordSets"] == 2


def test_a_batch_made_of_a_reading_that_has_changed_is_made_again(server: Route53Server) -> None:
    """Two masters replace one placeholder: the second one finds it replaced, looks once more, and writes."""
    zone = server.create_zone("c1.test")
    server.put(zone, API, "A", PLACEHOLDERS["A"])
    seen = UnmanagedRecord("A", (PLACEHOLDERS["A"],), "addresses that no owner is recorded for")
    first, second = provider(), provider()
    for route53 in (first, second):
        route53.record_sets(frozenset({API}))
    first.change([put(API, "10.0.0.1", "i-1", adopts=(seen,))])
    second.change([put(API, "10.0.0.2", "i-2", adopts=(seen,))])
    assert sorted(one["ResourceRecords"][0] for one in server.records(zone) if one["Name"] == f"{API}.") == [
        "10.0.0.1",
        "10.0.0.2",
    ]


# --- records ---


def test_what_an_operator_sees_tells_who_wrote_it(server: Route53Server) -> None:
    zone = server.create_zone("c1.test")
    provider().change([put(API, "10.0.0.1"), put(ETCD, "10.0.0.1")])
    seen = {
        (one["Name"], one["Type"], one.get("SetIdentifier")): one["ResourceRecords"] for one in server.records(zone)
    }
    assert seen[f"{API}.", "A", "protokube:i-1"] == ["10.0.0.1"]
    assert seen[f"{ETCD}.", "A", None] == ["10.0.0.1"]
    assert seen[f"_protokube.{ETCD}.", "TXT", None] == ['"protokube" "i-1"']


def test_more_owners_than_a_page_holds_are_all_read(server: Route53Server) -> None:
    zone = server.create_zone("c1.test")
    count = 2 * PAGE + 5
    for i in range(count):
        server.put(zone, API, "A", f"10.0.1.{i}", SetIdentifier=f"protokube:i-{i:03}", MultiValueAnswer=True, TTL=60)
    found = provider().record_sets(frozenset({API}))[API]
    assert [one.owner for one in found.owned] == [f"i-{i:03}" for i in range(count)]


def test_the_owner_record_is_found_behind_other_names(server: Route53Server) -> None:
    zone = server.create_zone("c1.test")
    provider().change([put(ETCD, "10.0.0.1")])
    for i in range(PAGE + 5):
        server.put(zone, f"{i:02}.{ETCD}", "A", "192.0.2.1")
    assert provider().record_sets(frozenset({ETCD}))[ETCD].owned == (OwnedRecord("A", ("10.0.0.1",), 60, "i-1"),)


@pytest.mark.parametrize(
    ("fields", "why", "blocks"),
    [
        ({"SetIdentifier": "blue", "Weight": 10}, "routing policy", True),
        ({"SetIdentifier": "blue", "MultiValueAnswer": True}, "multivalue record 'blue'", False),
        ({"AliasTarget": {"DNSName": "lb.test.", "HostedZoneId": "Z", "EvaluateTargetHealth": False}}, "alias", True),
    ],
)
def test_records_of_others_are_told_apart(
    server: Route53Server, fields: dict[str, Any], why: str, blocks: bool
) -> None:
    zone = server.create_zone("c1.test")
    server.put(zone, API, "A", *([] if "AliasTarget" in fields else ["192.0.2.1"]), **fields)
    found = provider().record_sets(frozenset({API}))[API]
    assert found.owned == ()
    (unmanaged,) = found.unmanaged
    assert why in unmanaged.why
    assert unmanaged.blocks is blocks


@pytest.mark.parametrize("name", [API, ETCD])
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("CNAME", {}),
        ("A", {"SetIdentifier": "blue", "Weight": 10}),
        ("A", {"SetIdentifier": "blue", "MultiValueAnswer": True}),
        ("A", {"AliasTarget": {"DNSName": "lb.test.", "HostedZoneId": "Z", "EvaluateTargetHealth": False}}),
    ],
    ids=["cname", "weighted", "multivalue", "alias"],
)
def test_records_of_others_are_exchanged_in_one_request(
    server: Route53Server, name: str, kind: str, fields: dict[str, Any]
) -> None:
    zone = server.create_zone("c1.test")
    server.put(
        zone,
        name,
        kind,
        *([] if "AliasTarget" in fields else ["lb.test." if kind == "CNAME" else "192.0.2.1"]),
        **fields,
    )
    route53 = provider()
    wanted = tuple(WantedRecord(name, type_, (value,), name == API, "i-1") for type_, value in ADDRESSES)
    desired = WantedRecords("i-1", records=wanted, control_plane=wanted if name == API else ())
    (batch,) = decide_records(
        desired, route53.record_sets(desired.names), RecordPolicy(removals=1, adopt=True)
    ).batches
    route53.change(batch.changes)
    found = route53.record_sets(desired.names)
    assert decide_records(desired, found, CAREFUL) == RecordDecision()
    assert server.calls["ChangeResourceRecordSets"] == 1


ALIAS: dict[str, Any] = {
    "AliasTarget": {"DNSName": "lb.c1.test.", "HostedZoneId": "Z", "EvaluateTargetHealth": False}
}


@dataclass(frozen=True)
class Beside:
    """An unmanaged record in the place of an owner record, and what is said of it."""

    kind: str
    values: tuple[str, ...]
    fields: dict[str, Any]
    evidence: str

    def stands_at(self, server: Route53Server, name: str) -> None:
        """Put it beside a name, in a new zone."""
        server.put(server.create_zone("c1.test"), f"_protokube.{name}", self.kind, *self.values, **self.fields)


UNMANAGED = {
    "alias": Beside("TXT", (), ALIAS, "TXT lb.c1.test (an alias at _protokube."),
    "text": Beside("TXT", ('"hello"',), {}, 'TXT "hello" (a record of another kind at _protokube.'),
    "ours-and-more": Beside("TXT", ('"protokube" "i-1"', '"hello"'), {}, "(a record of another kind at _protokube."),
    "weighted": Beside(
        "TXT", ('"blue"',), {"SetIdentifier": "blue", "Weight": 10}, "a routing policy, 'blue' at _protokube."
    ),
    "cname": Beside("CNAME", ("lb.c1.test.",), {}, "CNAME lb.c1.test. (a record of another kind at _protokube."),
}


@pytest.fixture(params=UNMANAGED.values(), ids=list(UNMANAGED))
def beside(request: pytest.FixtureRequest) -> Beside:
    """Each of them."""
    return cast("Beside", request.param)


def etcd_records(owner: str = "i-1") -> WantedRecords:
    return WantedRecords(owner, records=(WantedRecord(ETCD, "A", ("10.0.0.1",), False, owner),), control_plane=())


def test_an_unmanaged_record_beside_an_exclusive_name_is_reported_and_left(
    server: Route53Server, beside: Beside
) -> None:
    beside.stands_at(server, ETCD)
    found = provider().record_sets(frozenset({ETCD}))
    plan = decide_records(etcd_records(), found, CAREFUL)
    assert plan.batches == ()
    ((name, rule, why),) = plan.refusals
    assert (name, rule) == (ETCD, "dns/foreign") and beside.evidence in why


def test_an_unmanaged_record_beside_an_exclusive_name_is_exchanged_in_one_request(
    server: Route53Server, beside: Beside
) -> None:
    beside.stands_at(server, ETCD)
    route53, desired = provider(), etcd_records()
    (batch,) = decide_records(
        desired, route53.record_sets(desired.names), RecordPolicy(removals=1, adopt=True)
    ).batches
    route53.change(batch.changes)
    assert route53.record_sets(desired.names)[ETCD].owned == (OwnedRecord("A", ("10.0.0.1",), 60, "i-1"),)
    assert decide_records(desired, route53.record_sets(desired.names), CAREFUL) == RecordDecision()
    assert server.calls["ChangeResourceRecordSets"] == 1


def test_an_unmanaged_record_beside_a_shared_name_is_not_in_the_way(server: Route53Server, beside: Beside) -> None:
    beside.stands_at(server, API)
    route53 = provider()
    wanted = (WantedRecord(API, "A", ("10.0.0.1",), True, "i-1"),)
    desired = WantedRecords("i-1", records=wanted, control_plane=wanted)
    plan = decide_records(desired, route53.record_sets(desired.names), CAREFUL)
    assert plan.refusals == ()
    route53.change(plan.batches[0].changes)
    assert decide_records(desired, route53.record_sets(desired.names), CAREFUL) == RecordDecision()


def test_an_alias_of_another_type_beside_an_exclusive_name_is_never_touched(server: Route53Server) -> None:
    zone = server.create_zone("c1.test")
    server.put(zone, f"_protokube.{ETCD}", "A", **ALIAS)
    route53, desired = provider(), etcd_records()
    (batch,) = decide_records(desired, route53.record_sets(desired.names), CAREFUL).batches
    route53.change(batch.changes)
    found = route53.record_sets(desired.names)[ETCD]
    assert found.owned == (OwnedRecord("A", ("10.0.0.1",), 60, "i-1"),) and found.unmanaged == ()
    route53.change([RecordChange(ChangeKind.DELETE, ETCD, "A", (), 60, "i-1", False, ("10.0.0.1",))])
    left = [(one["Name"], one["Type"]) for one in server.records(zone) if ETCD in one["Name"]]
    assert left == [(f"_protokube.{ETCD}.", "A")]


def test_other_types_under_our_names_are_none_of_ours(server: Route53Server) -> None:
    zone = server.create_zone("c1.test")
    server.put(zone, API, "TXT", '"v=spf1 -all"')
    route53 = provider()
    route53.change([put(API, "10.0.0.1")])
    found = route53.record_sets(frozenset({API}))[API]
    assert (len(found.owned), found.unmanaged) == (1, ())
    assert [one["ResourceRecords"] for one in server.records(zone) if one["Type"] == "TXT"] == [['"v=spf1 -all"']]


def test_another_spelling_of_an_ipv6_address_is_the_same_address(server: Route53Server) -> None:
    zone = server.create_zone("c1.test")
    server.put(zone, ETCD, "AAAA", "FD00:0:0:0:0:0:0:1")
    assert provider().record_sets(frozenset({ETCD}))[ETCD].owned[0].values == ("fd00::1",)


def test_a_batch_is_all_or_nothing(server: Route53Server) -> None:
    zone = server.create_zone("c1.test")
    server.put(zone, API, "A", "192.0.2.1")
    with pytest.raises(ProviderError, match=r"InvalidChangeBatch.*read again"):
        provider().change([put(ETCD, "10.0.0.1"), put(API, "10.0.0.1")])
    assert not [one for one in server.records(zone) if one["Name"] == f"{ETCD}."]


def test_what_was_adopted_must_still_be_what_was_seen(server: Route53Server) -> None:
    zone = server.create_zone("c1.test")
    server.put(zone, API, "A", "192.0.2.2")
    seen = UnmanagedRecord("A", ("192.0.2.1",), "addresses that no owner is recorded for")
    with pytest.raises(ProviderError, match="InvalidChangeBatch"):
        provider().change([put(API, "10.0.0.1", adopts=(seen,))])
    assert [one["ResourceRecords"] for one in server.records(zone) if one["Name"] == f"{API}."] == [["192.0.2.2"]]


# --- errors ---


@pytest.mark.parametrize(
    ("code", "status", "advice"),
    [
        ("Throttling", 400, "5 requests a second"),
        ("PriorRequestNotComplete", 400, "under way"),
        ("InvalidChangeBatch", 400, "read again"),
        ("AccessDenied", 403, "lacks this permission"),
        ("ExpiredToken", 403, "credentials"),
        ("ServiceUnavailable", 503, "next reconcile"),
    ],
)
def test_errors_say_what_was_asked_and_what_to_do(server: Route53Server, code: str, status: int, advice: str) -> None:
    zone = server.create_zone("c1.test")
    route53 = provider()
    route53.change([put(API, "10.0.0.1")])
    server.faults.append(Fault(code, status))
    with pytest.raises(ProviderError, match=rf"(?s){API}.*{zone}.*ChangeResourceRecordSets.*{code}.*{advice}"):
        route53.change([put(API, "10.0.0.2")])
    route53.change([put(API, "10.0.0.2")])


def test_throttling_while_zones_are_looked_for_loses_no_ground(server: Route53Server) -> None:
    zone = server.create_zone("c1.test")
    for i in range(PAGE):
        server.create_zone(f"a{i:03}.test")
    route53 = provider()
    server.faults.extend([Fault(), Fault("Throttling")])
    with pytest.raises(ProviderError, match="Throttling"):
        route53.record_sets(frozenset({API}))
    assert zones(server, route53, API) == {API: zone}
    assert server.calls["ListHostedZonesByName"] == 3


def test_no_credentials_are_an_error_until_they_arrive(
    server: Route53Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = server.create_zone("c1.test")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setattr(awsclient, "_session", functools.cache(awsclient._session.__wrapped__))  # a fresh process
    route53 = provider()
    with pytest.raises(ProviderError, match="credentials"):
        route53.record_sets(frozenset({API}))
    server.environment(monkeypatch)
    assert zones(server, route53, API) == {API: zone}


def test_a_server_that_is_not_there(server: Route53Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ProviderError, match="endpoint"):
        provider().record_sets(frozenset({API}))
