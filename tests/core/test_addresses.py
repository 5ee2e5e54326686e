"""Which address of a machine is the node's: tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protokube.core.node.addresses import Address, DefaultRoute, candidates, choose

ETH0, ETH1, LO = 2, 3, 1
WAY4 = DefaultRoute(4, 100, ETH0)
WAY6 = DefaultRoute(6, 1024, ETH0)


def at(text: str, created: int = 0, interface: int = ETH0) -> Address:
    """An address as iproute2 writes it: text and prefix."""
    address, _, prefix = text.partition("/")
    return Address(address, interface, int(prefix), created)


# What the kernel has (IPv4 in the order of creation, IPv6 newest first), what was in use, and what is to be used.
ONE_OF_A_FAMILY = {
    "the only one": (["10.0.0.1/24"], "", "10.0.0.1"),
    "none": ([], "10.0.0.1", ""),
    "the oldest": (["10.0.0.1/24", "10.0.0.2/24"], "", "10.0.0.1"),
    "the oldest, though the newest is listed first": (["fd00::2/64", "fd00::1/64"], "", "fd00::1"),
    "in use": (["10.0.0.1/24", "10.0.0.2/24"], "10.0.0.2", "10.0.0.2"),
    "in use once, and gone": (["10.0.0.1/24", "10.0.0.2/24"], "10.0.0.3", "10.0.0.1"),
    "a floating one beside ours": (["2001:db8::100/128", "2001:db8::1/64"], "2001:db8::1", "2001:db8::1"),
    "a floating one that was first": (["2001:db8::1/64", "2001:db8::100/128"], "", "2001:db8::1"),
    "a floating one of IPv4": (["10.0.0.100/32", "10.0.0.1/24"], "", "10.0.0.1"),
    "a floating one that was taken while ours was away": (["10.0.0.100/32", "10.0.0.1/24"], "10.0.0.100", "10.0.0.1"),
    "a floating one within the network, ours was away": (["10.0.0.100/24", "10.0.0.1/24"], "10.0.0.1", "10.0.0.1"),
    "a cloud's /32 alone": (["10.0.0.1/32"], "", "10.0.0.1"),
    "a cloud's /32 and a floating one": (["10.0.0.1/32", "10.0.0.100/32"], "", "10.0.0.1"),
    "of several /32 the one in use": (["10.0.0.1/32", "10.0.0.2/32"], "10.0.0.2", "10.0.0.2"),
}


@pytest.mark.parametrize("case", ONE_OF_A_FAMILY)
def test_one_of_a_family(case: str) -> None:
    texts, in_use, wanted = ONE_OF_A_FAMILY[case]
    # The time of creation ties within a tick of the clock; the kernel's order decides then.
    found = candidates([WAY4, WAY6], [at(text) for text in texts])
    assert choose(found, [in_use]) == ((wanted,) if wanted else ())


def test_the_oldest_is_by_time_and_not_by_the_kernels_order() -> None:
    """An IPv4 address that was deleted and added again is listed behind those that came meanwhile, or before."""
    again = [at("10.0.0.1/24", created=900), at("10.0.0.2/24", created=100)]
    assert choose(candidates([WAY4], again)) == choose(candidates([WAY4], again[::-1])) == ("10.0.0.2",)


def test_each_family_by_itself() -> None:
    both = [at("10.0.0.1/24"), at("10.0.0.9/24"), at("fd00::9/128"), at("fd00::2/64", 2), at("fd00::1/64", 1)]
    found = candidates([WAY4, WAY6], both)
    assert choose(found) == ("10.0.0.1", "fd00::1")
    assert choose(found, ["10.0.0.9"]) == ("10.0.0.9", "fd00::1")
    assert choose(found, ["fd00::2", "10.0.0.9"]) == ("10.0.0.9", "fd00::2")


SOURCES = {
    "of the same interface": ([at("10.0.0.1/24"), at("10.0.0.2/24")], "10.0.0.2", "", "10.0.0.2"),
    "of lo": ([at("127.0.0.1/8", interface=LO), at("10.9.0.1/32", interface=LO)], "10.9.0.1", "", "10.9.0.1"),
    "of lo, and a link's own": ([at("10.9.0.1/32", interface=LO), at("10.0.0.0/31")], "10.9.0.1", "", "10.9.0.1"),
    "that isn't there": ([at("10.0.0.1/24")], "10.0.0.2", "", "10.0.0.1"),
    "that came later than the one in use": (
        [at("10.0.0.1/24"), at("10.0.0.2/24")],
        "10.0.0.2",
        "10.0.0.1",
        "10.0.0.1",
    ),
    "that is another address than lo's": ([at("10.9.0.1/32", interface=LO)], None, "", ""),
}


@pytest.mark.parametrize("case", SOURCES)
def test_the_source_that_a_route_prefers(case: str) -> None:
    addresses, source, in_use, wanted = SOURCES[case]
    found = candidates([DefaultRoute(4, 100, ETH0, source)], addresses)
    assert choose(found, [in_use]) == ((wanted,) if wanted else ())


def test_the_best_route_decides_and_the_other_family_helps_out() -> None:
    addresses = [at("10.0.0.1/24"), at("10.1.0.1/24", interface=ETH1), at("fd00::1/64"), at("fd01::1/64", 0, ETH1)]
    slow, fast = DefaultRoute(4, 600, ETH0), DefaultRoute(4, 100, ETH1)
    assert choose(candidates([slow, fast], addresses)) == ("10.1.0.1", "fd01::1")
    assert choose(candidates([slow, fast, WAY6], addresses)) == ("10.1.0.1", "fd00::1")
    assert choose(candidates([WAY6], addresses)) == ("10.0.0.1", "fd00::1")
    assert choose(candidates([], addresses), ["10.0.0.1"]) == ()


NETWORKS = {4: ("10.0.0", "/24", "/32"), 6: ("fd00:", "/64", "/128")}


@st.composite
def machines(draw: st.DrawFn) -> list[Address]:
    """Distinct addresses of both families on eth0, in any order."""
    found = []
    for version, (network, *prefixes) in NETWORKS.items():
        for host in draw(st.lists(st.integers(1, 9), unique=True, max_size=4)):
            text = f"{network}{'.' if version == 4 else ':'}{host}{draw(st.sampled_from(prefixes))}"
            found.append(at(text, draw(st.integers(0, 3))))
    return draw(st.permutations(found))


@given(machines(), st.sets(st.integers(1, 9)))
def test_what_is_chosen_stays_chosen_while_others_come_and_go(machine: list[Address], leaving: set[int]) -> None:
    chosen = choose(candidates([WAY4, WAY6], machine))
    assert [one.version for one in machine if one.text in chosen].count(4) <= 1
    assert choose(candidates([WAY4, WAY6], machine), chosen) == chosen
    left = [one for one in machine if one.text in chosen or int(one.text[-1]) not in leaving]
    assert choose(candidates([WAY4, WAY6], left), chosen) == chosen


@given(machines())
def test_none_that_stands_alone_where_another_exists(machine: list[Address]) -> None:
    for in_use in [(), *((one.text,) for one in machine)]:
        chosen = choose(candidates([WAY4, WAY6], machine), in_use)
        for one in machine:
            same = [other for other in machine if other.version == one.version]
            assert not (one.text in chosen and one.alone and not all(other.alone for other in same))
