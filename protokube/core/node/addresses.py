"""Which of a machine's addresses the other nodes use: one for each IP family.

A floating address (keepalived, kube-vip) or one that came later must not become the node's address, since etcd's
names and kubelet's --node-ip follow it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from msgspec import Struct

FAMILIES = (4, 6)
_WHOLE = {4: 32, 6: 128}


class Address(Struct, frozen=True):
    """A usable address. `created` counts hundredths of a second since boot, so that the lowest is the oldest.

    `interface` is an index, `prefix` the length of its network in bits.
    """

    text: str
    interface: int
    prefix: int
    created: int

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.text else 4

    @property
    def alone(self) -> bool:
        """Whether it is the only address of its network (/32 or /128), as floating addresses are."""
        return self.prefix == _WHOLE[self.version]


class DefaultRoute(Struct, frozen=True):
    """A default route. `interface` is an index; `source` is the address that it prefers to send from."""

    version: int
    metric: int
    interface: int
    source: str | None = None


def candidates(routes: Iterable[DefaultRoute], addresses: Sequence[Address]) -> tuple[Address, ...]:
    """The addresses that may be the node's, IPv4 before IPv6, each family's in the order of preference.

    They are those of the interface of the family's best default route (without one: of the other family's), and the
    route's source, wherever that is: routed hosts have it on `lo`. Empty without a default route.
    """
    best: dict[int, DefaultRoute] = {}
    for route in sorted(routes, key=lambda route: route.metric):
        best.setdefault(route.version, route)
    found: list[Address] = []
    for version, other in zip(FAMILIES, reversed(FAMILIES), strict=True):
        way = best.get(version) or best.get(other)
        if way is not None:
            family = [address for address in addresses if address.version == version]
            own = [one for one in family if one.interface == way.interface or one.text == way.source]
            found += _by_preference(own, way.source)
    return tuple(found)


def choose(preferred: Iterable[Address], in_use: Collection[str] = ()) -> tuple[str, ...]:
    """One address of each family out of `candidates`: one that is in use, else the first.

    `in_use` are the addresses that the other nodes were told last. An address alone in its network is given up for a
    better one even though it was in use: it may have been chosen while it was the only one.
    """
    of: dict[int, list[Address]] = {}
    for address in preferred:
        of.setdefault(address.version, []).append(address)
    return tuple(_one(of[version], in_use).text for version in FAMILIES if version in of)


def _one(preferred: Sequence[Address], in_use: Collection[str]) -> Address:
    first = preferred[0]
    stable = (one for one in preferred if one.text in in_use and (first.alone or not one.alone))
    return next(stable, first)


def _by_preference(addresses: Sequence[Address], source: str | None) -> list[Address]:
    """The route's source is what an operator or DHCP says; then the networks' addresses, then the oldest."""
    # The kernel lists IPv4 in the order of creation and IPv6 newest first, which matters within 10 ms only.
    listed = [address for address in addresses if address.version == 4]
    listed += [address for address in reversed(addresses) if address.version == 6]
    return sorted(listed, key=lambda one: (one.text != source, one.alone, one.created))
