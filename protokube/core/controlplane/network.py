"""The cluster's networks: the addresses of pods and of services."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from protokube.core.component.labels import is_subdomain
from protokube.core.controlplane.model import Networking
from protokube.core.model import Fault


def faults_of(networking: Networking, place: str = "networking") -> Iterator[Fault]:
    """Every fault of the networks; `place` says where they are configured."""
    pods = _networks(networking.pod_cidr)
    services = _networks(networking.service_cidr)
    for key, text, found in (
        ("podCIDR", networking.pod_cidr, pods),
        ("serviceCIDR", networking.service_cidr, services),
    ):
        if found is None:
            yield Fault(f"{place}.{key}", f"{text!r} is wrong; expected a range like 10.96.0.0/12, or one per family")
    if not is_subdomain(networking.domain):
        yield Fault(f"{place}.domain", f"{networking.domain!r} is wrong; expected a domain like cluster.local")
    if pods and services and any(_overlap(one, other) for one in pods for other in services):
        yield Fault(f"{place}.serviceCIDR", f"{networking.service_cidr} overlaps podCIDR {networking.pod_cidr}")
    if services:
        # The API server refuses larger ranges: a bit of memory for each address (kubernetes, validateClusterIPFlags).
        for one in services:
            if one.max_prefixlen - one.prefixlen > 20:
                yield Fault(f"{place}.serviceCIDR", f"{one} has more than 2^20 addresses; expected fewer")
        yield from _dns_fault(networking, services, place)


def first_service_address(networking: Networking) -> tuple[str, ...]:
    """The API server's own address among the services, one per family."""
    return tuple(str(one[1]) for one in _networks(networking.service_cidr) or ())


def _dns_fault(
    networking: Networking, services: tuple[IPv4Network | IPv6Network, ...], place: str
) -> Iterator[Fault]:
    try:
        address = ip_address(networking.cluster_dns)
    except ValueError:
        yield Fault(f"{place}.clusterDNS", f"{networking.cluster_dns!r} is wrong; expected an address")
        return
    if not any(address in one for one in services):
        expected = f"expected an address of serviceCIDR {networking.service_cidr}"
        yield Fault(f"{place}.clusterDNS", f"{networking.cluster_dns} is wrong; {expected}")


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...] | None:
    """The networks of a text; None when it is wrong. At most one per family."""
    try:
        found = tuple(ip_network(part.strip()) for part in text.split(","))
    except ValueError:
        return None
    return found if len({one.version for one in found}) == len(found) else None


def _overlap(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return one.version == other.version and one.overlaps(other)
