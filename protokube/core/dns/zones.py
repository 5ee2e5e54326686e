"""Which zone a name belongs to, and when that is refused."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class Zone(Struct, frozen=True):
    """A zone as its server describes it. `name` is lower case, without the trailing dot.

    `excluded` says why no name can be written there; it is empty for a usable zone.
    """

    id: str
    name: str
    private: bool = False
    excluded: str = ""

    def contains(self, name: str) -> bool:
        """Whether `name` lies in the zone (its own name included)."""
        return name == self.name or name.endswith("." + self.name)

    def cuts(self, name: str) -> list[str]:
        """The names at which an NS record would take `name` out of the zone, the longest first."""
        return [suffix for suffix in suffixes(name) if suffix != self.name and self.contains(suffix)]


class NoZone(Struct, frozen=True):
    """Why no zone takes a name: `rule` is `dns/no-zone`, `dns/ambiguous-zone` or `dns/delegated`."""

    rule: str
    evidence: str


def suffixes(name: str) -> list[str]:
    """The zone names that could hold `name`, the longest first."""
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(len(labels))]


def choose_zone(name: str, zones: Iterable[Zone], *, internal: bool) -> Zone | NoZone:
    """Choose the longest zone that contains `name`: private zones first for internal names, public first for others.

    Two zones of one kind and name are refused, naming both: a wrong guess writes where no resolver looks.
    """
    seen = list(zones)
    fitting = [zone for zone in seen if zone.contains(name) and not zone.excluded]
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
    return NoZone("dns/no-zone", f"no zone holds {name}; {_seen(name, seen)}")


def delegated(name: str, zone: str, cut: str) -> NoZone:
    """The refusal of a name at or below a zone cut. `cut` is the record that makes it: name, type and target."""
    return NoZone(
        "dns/delegated",
        f"zone {zone} holds {cut}, so resolvers look for {name} elsewhere; let protokube write into the zone where "
        "they look (--dns-zone-name, --dns-server), or remove that record",
    )


def _seen(name: str, zones: Iterable[Zone]) -> str:
    """The zones that were seen and why each was passed over; those that contain the name, if any do."""
    fitting = [f"{zone.name} ({zone.id}): {zone.excluded}" for zone in zones if zone.contains(name)]
    others = [f"{zone.name} ({zone.id}): it doesn't hold the name" for zone in zones if not zone.contains(name)]
    found = sorted(fitting or others)
    return f"seen: {'; '.join(found)}" if found else f"seen: no zone named {' or '.join(suffixes(name))}"
