"""Which zone a name belongs to."""

from __future__ import annotations

import pytest

from protokube.core.dns.zones import NoZone, Zone, choose_zone, suffixes

PUBLIC = Zone("Z1", "example.com")
PUBLIC_LONG = Zone("Z2", "c1.example.com")
PRIVATE = Zone("Z3", "c1.example.com", True)
PRIVATE_LONG = Zone("Z4", "internal.c1.example.com", True)


@pytest.mark.parametrize(
    ("zones", "internal", "public"),
    [
        ([PUBLIC], PUBLIC, PUBLIC),
        ([PUBLIC, PUBLIC_LONG], PUBLIC_LONG, PUBLIC_LONG),
        ([PUBLIC_LONG, PRIVATE], PRIVATE, PUBLIC_LONG),
        ([PUBLIC, PRIVATE, PRIVATE_LONG], PRIVATE_LONG, PUBLIC),
        ([PRIVATE], PRIVATE, PRIVATE),
    ],
)
def test_kind_first_then_the_longest(zones: list[Zone], internal: Zone, public: Zone) -> None:
    assert choose_zone("api.internal.c1.example.com", zones, internal=True) == internal
    assert choose_zone("api.c1.example.com", zones, internal=False) == public


def test_two_of_one_kind_and_name_are_refused_by_their_ids() -> None:
    found = choose_zone("api.c1.example.com", [PUBLIC_LONG, Zone("Z9", "c1.example.com"), PRIVATE], internal=False)
    assert isinstance(found, NoZone)
    assert found.rule == "dns/ambiguous-zone"
    assert "Z2 and Z9" in found.evidence


def test_ambiguity_elsewhere_does_not_matter() -> None:
    twice = [PUBLIC, Zone("Z8", "example.com"), PUBLIC_LONG]
    assert choose_zone("api.c1.example.com", twice, internal=False) == PUBLIC_LONG


@pytest.mark.parametrize("zones", [[], [Zone("Z", "other.com")], [Zone("Z", "1.example.com")]])
def test_no_zone(zones: list[Zone]) -> None:
    found = choose_zone("api.c1.example.com", zones, internal=False)
    assert isinstance(found, NoZone)
    assert found.rule == "dns/no-zone"


def test_suffixes_are_the_longest_first() -> None:
    assert suffixes("a.b.c") == ["a.b.c", "b.c", "c"]
