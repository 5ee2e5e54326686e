"""Judges requests for kubelets' serving certificates. Nothing in Kubernetes approves these.

A node may ask for a certificate of its own name and addresses, to serve with, and for nothing else. What a node says
about itself isn't enough: it could claim another's address, and be taken for it by the API server. So an address that
two nodes claim is refused to both, and no address or name of the control plane's own goes to any. One authority signs
for kubelets and for the API server: whoever has a certificate of the API server's name is the API server to all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from msgspec import Struct

SIGNER = "kubernetes.io/kubelet-serving"
_USER, _GROUP = "system:node:", "system:nodes"
_SERVER = "server auth"
_USAGES = frozenset({_SERVER, "digital signature", "key encipherment"})


_INSIDE = ("kubernetes", "kubernetes.default", "localhost")
_DOMAINS = ("svc", "localhost")
Address = IPv4Address | IPv6Address


class Reserved(Struct, frozen=True):
    """What no node may have: addresses, names, and domains with all names below them."""

    addresses: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()


class ServingNames(Struct, frozen=True):
    """The names in a request. `others` counts those that are neither DNS names nor addresses."""

    common_name: str
    organizations: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    others: int = 0


class ServingRequest(Struct, frozen=True):
    """A request that nobody has decided. `user` and `groups` are who sent it, by the API server's word. `names` is a
    text where its PKCS #10 can't be read, and says why."""

    name: str
    user: str
    groups: tuple[str, ...]
    usages: tuple[str, ...]
    names: ServingNames | str


class Verdict(Struct, frozen=True):
    """`approve` or deny a request, and why; None in place of a verdict: it is left until more is known."""

    approve: bool
    reason: str


def judge(request: ServingRequest, nodes: Mapping[str, tuple[str, ...]], reserved: Reserved) -> Verdict | None:
    """Judge a request. `nodes`: name → the addresses that each node claims."""
    name = request.user.removeprefix(_USER)
    if fault := _sender_fault(request):
        return Verdict(False, fault)
    if isinstance(request.names, str):
        return Verdict(False, f"the request can't be read: {request.names}")
    if fault := _identity_fault(request.names, request.user) or _names_fault(request.names, name, reserved):
        return Verdict(False, fault)
    if name not in nodes:
        return None  # kubelet asks before it has made its Node
    claims = {node: _addresses(claimed) for node, claimed in nodes.items()}
    taken = _addresses(reserved.addresses)
    for address in request.names.addresses:
        if fault := _address_fault(address, name, claims, taken):
            return Verdict(False, fault)
    return Verdict(True, "its own name and addresses")


def _sender_fault(request: ServingRequest) -> str | None:
    if not request.user.startswith(_USER) or request.user == _USER or _GROUP not in request.groups:
        return f"{request.user} is no node"
    if _SERVER not in request.usages or not set(request.usages) <= _USAGES:
        return f"its usages are {', '.join(request.usages)} (expected {_SERVER}, and none but a server's)"
    return None


def _identity_fault(names: ServingNames, user: str) -> str | None:
    if names.common_name != user:
        return f"it names {names.common_name!r} (expected {user!r})"
    if names.organizations != (_GROUP,):
        return f"it names the groups {', '.join(names.organizations) or 'none'} (expected {_GROUP} alone)"
    return None


def _names_fault(names: ServingNames, name: str, reserved: Reserved) -> str | None:
    if _is_reserved(name, reserved):
        return f"{name} is a name of the control plane or of a service, and of no node"
    if names.others:
        return "it has names that are neither DNS names nor addresses"
    if foreign := [one for one in names.dns if one != name]:
        return f"it has the name {foreign[0]} (expected {name} alone)"
    if not names.dns and not names.addresses:
        return "it has neither a name nor an address"
    return None


def _is_reserved(name: str, reserved: Reserved) -> bool:
    plain = name.lower().rstrip(".")
    domains = (*_DOMAINS, *reserved.domains)
    return plain in (*_INSIDE, *reserved.names) or any(
        plain == domain or plain.endswith(f".{domain}") for domain in domains
    )


def _address_fault(
    address: str, name: str, claims: Mapping[str, frozenset[Address]], reserved: frozenset[Address]
) -> str | None:
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return f"{address} is an IPv4 address in another form"
    if parsed.is_loopback or parsed.is_unspecified or parsed.is_multicast or parsed in reserved:
        return f"{address} is no address of a node"
    if parsed not in claims[name]:
        return f"{address} is none of its node's addresses ({', '.join(map(str, claims[name])) or 'none'})"
    if others := [other for other, claimed in claims.items() if other != name and parsed in claimed]:
        return f"{address} is claimed by {others[0]} as well"
    return None


def _addresses(texts: Iterable[str]) -> frozenset[Address]:
    """The addresses of the texts that are any, each in one form: a node may write what it likes in its Node."""
    found = set()
    for text in texts:
        try:
            one = ip_address(text)
        except ValueError:
            continue
        found.add((one.ipv4_mapped or one) if isinstance(one, IPv6Address) else one)
    return frozenset(found)
