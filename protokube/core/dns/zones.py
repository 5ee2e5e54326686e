"""Which hosted zone a name belongs to, and when to refuse instead of guessing."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class Zone(Struct, frozen=True):
    """A zone as its server knows it. `name` is lower case, without the trailing dot."""

    id: str
    name: str
    private: bool = False

    def holds(self, name: str) -> bool:
        """Whether `name` lies in the zone (its own name included)."""
        return name == self.name or name.endswith("." + self.name)


class NoZone(Struct, frozen=True):
    """A name that has no place: `rule` is `dns/no-zone` or `dns/ambiguous-zone`."""

    rule: str
    evidence: str


def suffixes(name: str) -> list[str]:
    """The zone names that could hold `name`, the longest first."""
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(len(labels))]


def choose_zone(name: str, zones: Iterable[Zone], *, internal: bool) -> Zone | NoZone:
    """The longest zone that holds `name`: for internal names among private zones first, for others among public.

    Two zones of one kind and name are refused, naming both: a wrong guess writes where nobody looks.
    """
    fitting = [zone for zone in zones if zone.holds(name)]
    for private in (internal, not internal):
        kind = [zone for zone in fitting if zone.private is private]
        longest = [zone for zone in kind if len(zone.name) == max(len(one.name) for one in kind)]
        if len(longest) > 1:
            ids = " and ".join(sorted(zone.id for zone in longest))
            what = "private" if private else "public"
            evidence = f"{name} fits several {what} zones named {longest[0].name}: {ids}"
            return NoZone("dns/ambiguous-zone", f"{evidence}; name one by its id with --dns-zone-name")
        if longest:
            return longest[0]
    return NoZone("dns/no-zone", f"no zone holds {name}")
