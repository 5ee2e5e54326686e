"""Which of Route 53's zones a name belongs to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protokube.dnsprovider.route53 import PAGE, Route53
from protokube.errors import ProviderError
from tests.adapters.route53_names import API, ETCD, PUBLIC, SUFFIX, provider, put
from tests.lab.route53 import Route53Server


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


def test_internal_names_go_to_the_private_zone_of_this_vpc_and_api_to_the_public(server: Route53Server) -> None:
    public = server.create_zone("c1.test")
    private = server.create_zone("c1.test", vpc="vpc-1")
    server.create_zone("c1.test", vpc="vpc-2")
    assert zones(server, provider(), API, ETCD, PUBLIC) == {API: private, ETCD: private, PUBLIC: public}


def test_one_kind_serves_where_the_other_is_missing(server: Route53Server) -> None:
    private = server.create_zone("c1.test", vpc="vpc-1")
    assert zones(server, provider(), API, PUBLIC) == {API: private, PUBLIC: private}


def test_outside_of_a_vpc_private_zones_do_not_count(server: Route53Server) -> None:
    server.create_zone("c1.test", vpc="vpc-1")
    public = server.create_zone("test")
    assert zones(server, provider(inside=False), API) == {API: public}


def test_the_longest_zone_wins(server: Route53Server) -> None:
    server.create_zone("test")
    middle = server.create_zone("c1.test")
    longest = server.create_zone("internal.c1.test")
    assert zones(server, provider(), API, PUBLIC) == {API: longest, PUBLIC: middle}


def test_two_zones_of_one_kind_are_refused_naming_both(server: Route53Server) -> None:
    one, two = server.create_zone("c1.test"), server.create_zone("c1.test")
    private = server.create_zone("internal.c1.test", vpc="vpc-1")
    assert zones(server, provider(), API) == {API: private}
    refusal = provider().record_sets(frozenset({API, PUBLIC}))[PUBLIC].refusal
    assert refusal is not None
    assert refusal[0] == "dns/ambiguous-zone"
    assert one in refusal[1]
    assert two in refusal[1]
    with pytest.raises(ProviderError, match="ambiguous-zone"):
        provider().change([put(PUBLIC, "192.0.2.1")])


def test_a_zone_by_its_id_ends_the_ambiguity(server: Route53Server) -> None:
    one, two = server.create_zone("c1.test"), server.create_zone("c1.test")
    assert zones(server, provider(two), API, PUBLIC) == {API: two, PUBLIC: two}
    assert zones(server, provider(f"/hostedzone/{one}"), API) == {API: one}


def test_a_zone_by_its_name_excludes_all_others(server: Route53Server) -> None:
    named = server.create_zone("c1.test")
    server.create_zone("internal.c1.test")
    assert zones(server, provider("c1.test"), API) == {API: named}
    assert provider("c1.test.").record_sets(frozenset({"api.other.test"}))["api.other.test"].refusal is not None


def test_a_zone_stays_pinned_when_a_better_one_appears(server: Route53Server) -> None:
    first = server.create_zone("c1.test")
    route53 = provider()
    assert zones(server, route53, API) == {API: first}
    server.create_zone("internal.c1.test")
    assert zones(server, route53, API) == {API: first}


def test_names_in_two_zones_take_one_request_each(server: Route53Server) -> None:
    public, private = server.create_zone("c1.test"), server.create_zone("c1.test", vpc="vpc-1")
    provider().change([put(API, "10.0.0.1"), put(ETCD, "10.0.0.1"), put(PUBLIC, "192.0.2.1")])
    assert server.calls["ChangeResourceRecordSets"] == 2
    written = {record["Name"] for zone in (public, private) for record in server.records(zone)}
    assert {f"{API}.", f"{ETCD}.", f"{PUBLIC}."} <= written


def test_a_zone_that_is_deleted_is_looked_for_again(server: Route53Server) -> None:
    old = server.create_zone("c1.test")
    route53 = provider()
    assert zones(server, route53, API) == {API: old}
    server.backend.zones.pop(old)
    with pytest.raises(ProviderError, match=r"NoSuchHostedZone.*deleted"):
        route53.record_sets(frozenset({API}))
    new = server.create_zone("c1.test")
    assert zones(server, route53, API) == {API: new}


def refusal_of(route53: Route53, name: str) -> tuple[str, str]:
    refusal = route53.record_sets(frozenset({name}))[name].refusal
    assert refusal is not None
    return refusal


def test_no_zone_names_those_that_were_seen_and_why_they_do_not_count(server: Route53Server) -> None:
    other = server.create_zone("c1.test", vpc="vpc-2")
    assert refusal_of(provider(), API) == (
        "dns/no-zone",
        f"no zone holds {API}; seen: c1.test ({other}): private, and not associated with this machine's VPC vpc-1",
    )
    above = server.create_zone("test", vpc="vpc-1")
    evidence = refusal_of(provider(inside=False), PUBLIC)[1]
    assert f"c1.test ({other}): private, and this machine is in no VPC; test ({above}): private" in evidence


@pytest.mark.parametrize(
    ("option", "evidence"),
    [("c2.test", "c1.test ({}): --dns-zone-name says c2.test"), ("{}", "c1.test ({}): it doesn't hold the name")],
)
def test_no_zone_names_the_option_that_excludes_one(server: Route53Server, option: str, evidence: str) -> None:
    zone = server.create_zone("c1.test")
    name = API if "." in option else "api.c2.test"
    rule, said = refusal_of(provider(option.format(zone)), name)
    assert (rule, said) == ("dns/no-zone", f"no zone holds {name}; seen: {evidence.format(zone)}")


def test_no_zone_says_what_it_looked_for(server: Route53Server) -> None:
    server.create_zone("elsewhere.test")
    assert refusal_of(provider(), PUBLIC)[1].endswith("seen: no zone named api.c1.test or c1.test or test")


def test_a_zone_is_found_among_hundreds_in_few_calls(server: Route53Server) -> None:
    for i in range(3 * PAGE):
        server.create_zone(f"a{i:03}.test")
    zone = server.create_zone("c1.test")
    route53 = provider(inside=False)
    assert zones(server, route53, API, ETCD, PUBLIC) == dict.fromkeys((API, ETCD, PUBLIC), zone)
    assert server.calls["ListHostedZonesByName"] == 2
    assert zones(server, route53, f"etcd-events-a{SUFFIX}") == {f"etcd-events-a{SUFFIX}": zone}
    assert server.calls["ListHostedZonesByName"] == 2, "what was seen of the account is looked for again"


@pytest.mark.parametrize("vpc", [None, "vpc-1"])
def test_a_zone_that_is_made_later_is_found(server: Route53Server, vpc: str | None) -> None:
    route53 = provider()
    assert refusal_of(route53, API)[0] == "dns/no-zone"
    zone = server.create_zone("c1.test", vpc=vpc)
    assert zones(server, route53, API) == {API: zone}


def test_a_parent_zone_whose_child_stands_elsewhere_is_refused(server: Route53Server) -> None:
    """Of several NS records on the way, the one nearest to the zone counts: resolvers meet it first."""
    zone = server.create_zone("test")
    server.put(zone, "internal.c1.test", "NS", "ns.third.test.")
    server.put(zone, "c1.test", "NS", "ns2.elsewhere.test.", "ns1.elsewhere.test.")
    found = provider().record_sets(frozenset({API, PUBLIC, "api.c2.test"}))
    assert found["api.c2.test"].refusal is None
    for name in (API, PUBLIC):
        refusal = found[name].refusal
        assert refusal is not None
        assert refusal[0] == "dns/delegated"
        assert "zone test holds c1.test NS ns1.elsewhere.test, ns2.elsewhere.test, so" in refusal[1]


def test_the_ns_records_of_the_zone_itself_cut_nothing(server: Route53Server) -> None:
    zone = server.create_zone("c1.test")
    server.put(zone, "c1.test", "NS", "ns.aws.test.")
    assert provider().record_sets(frozenset({API}))[API].refusal is None
