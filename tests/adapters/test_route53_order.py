"""A sorted list, read as ranges: everything at the names is found, in never more pages than the names need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protokube.dnsprovider.route53_order import MAX_PAGES, Listing, Page, Place, order
from protokube.errors import ProviderError

NAMES = st.lists(st.sampled_from(["a", "a-b", "a0", "_x", "b", "z", "test"]), min_size=1, max_size=3).map(".".join)


class Server:
    """Names, several entries at one of them perhaps, `size` to a page."""

    def __init__(self, names: list[str], size: int) -> None:
        self.entries = [(name, number) for number, name in enumerate(sorted(names, key=order))]
        self.size = size
        self.calls = 0

    def page(self, place: Place) -> Page[tuple[str, int]]:
        self.calls += 1
        first = int(place.within.get("number", 0))
        rest = [(n, i) for n, i in self.entries if order(n) >= order(place.name) and i >= first]
        after = rest[self.size : self.size + 1]
        return Page(tuple(rest[: self.size]), Place(after[0][0], {"number": str(after[0][1])}) if after else None)


@given(st.lists(NAMES, max_size=30), st.sets(NAMES, max_size=6), st.sets(NAMES, max_size=3), st.integers(1, 7))
def test_everything_at_the_names_is_found(names: list[str], first: set[str], second: set[str], size: int) -> None:
    server = Server(names, size)
    listing: Listing[tuple[str, int]] = Listing()
    for wanted in (first, second):
        before, new = server.calls, [name for name in wanted if not listing.covers([name])]
        listing.read(wanted, server.page)
        pages = sum(1 + names.count(name) // size for name in new)
        assert server.calls - before <= pages
        assert listing.covers(wanted)
    expected = {(name, number) for name, number in server.entries if name in first | second}
    assert {entry for entry in listing.items if entry[0] in first | second} == expected


def test_the_dot_that_ends_a_label_counts() -> None:
    """As the API's reference says: `-` stands before it in ASCII, letters and `_` after it."""
    assert sorted(["b.a", "a", "a-1", "_x.a", "a1"], key=order) == ["a-1", "a", "_x.a", "b.a", "a1"]


def test_what_is_known_is_not_read_again() -> None:
    server = Server(["a", "b", "c"], 10)
    listing: Listing[tuple[str, int]] = Listing()
    listing.read({"b"}, server.page)
    listing.read({"b", "c"}, server.page)
    assert server.calls == 1
    listing.read({"a"}, server.page)
    assert server.calls == 2


def test_a_name_without_an_end_is_an_error() -> None:
    with pytest.raises(ProviderError, match=f"a has no end after {MAX_PAGES} pages"):
        Listing[int]().read({"a"}, lambda _: Page((1,), Place("a", {"again": "and again"})))
