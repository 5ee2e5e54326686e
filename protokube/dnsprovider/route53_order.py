"""Lists that Route 53 keeps sorted: the zones of an account, and the records of a zone.

Both come page by page, sorted by the labels from the right, so that names below one suffix are neighbours. Several
names are read as one range. Where a page ends before the next name, the range goes on at that name: a list is never
read as a whole, and several names never cost more calls than one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from msgspec import Struct, field

from protokube.errors import ProviderError

MAX_PAGES = 20
"""More pages than this beyond one for each name: something is wrong with the name, or with the server."""

T = TypeVar("T")


def order(name: str) -> str:
    """The key by which Route 53 sorts a name: com.example.www. The trailing dot counts: `-` sorts before it."""
    return ".".join(reversed(name.split("."))) + "."


class Place(Struct, frozen=True):
    """Where a page begins: at a name, or within its entries; `within` are the arguments that say where there."""

    name: str
    within: Mapping[str, str] = field(default_factory=dict)


class Page(Struct, Generic[T], frozen=True):
    """One answer, and where the next one begins; None at the end of the list."""

    items: tuple[T, ...]
    next: Place | None


class Listing(Struct, Generic[T]):
    """The part of a list that was read. `stretches` are known whole: from a name up to the next one."""

    items: list[T] = field(default_factory=list)
    stretches: list[tuple[str, str | None]] = field(default_factory=list)

    def covers(self, names: Iterable[str]) -> bool:
        """Whether all entries at these names were read."""
        return all(any(_lies_in(order(name), stretch) for stretch in self.stretches) for name in names)

    def read(self, names: Iterable[str], ask: Callable[[Place], Page[T]]) -> None:
        """Read the entries at names that are not known yet. Entries that were read before an error stay."""
        left = sorted({name for name in names if not self.covers([name])}, key=order)
        place = Place(left[0]) if left else None
        for _ in range(len(left) + MAX_PAGES):
            if place is None:
                return
            page = ask(place)
            self.items += page.items
            reached = None if page.next is None else order(page.next.name)
            self.stretches.append((order(place.name), reached))
            left = [name for name in left if reached is not None and order(name) >= reached]
            place = _next_place(left, page.next)
        raise ProviderError(
            f"Route 53: {left[0]} has no end after {MAX_PAGES} pages; remove the records that are not needed"
        )


def _lies_in(key: str, stretch: tuple[str, str | None]) -> bool:
    start, end = stretch
    return start <= key and (end is None or key < end)


def _next_place(left: list[str], following: Place | None) -> Place | None:
    if not left or following is None:
        return None
    return following if following.name == left[0] else Place(left[0])
