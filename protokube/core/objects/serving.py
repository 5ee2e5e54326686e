"""Judges requests for kubelets' serving certificates. Nothing in Kubernetes approves these.

A node may ask for a certificate of its own name and addresses, to serve with, and for nothing else. What a node says
about itself isn't enough: it could claim another's address, and be taken for it by the API server. So an address that
two nodes claim is refused to both, and no address or name of the control plane's own goes to any. One authority signs
for kubelets and for the API server: whoever has a certificate of the API server's name is the API server to all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from protokube.core.objects.requests import (
    NODE_USER,
    NODES,
    Request,
    RequestNames,
    Reserved,
    Verdict,
    identity_fault,
)

_SERVER = "server auth"
_USAGES = frozenset({_SERVER, "digital signature", "key encipherment"})
Address = IPv4Address | IPv6Address


def judge(request: Request, nodes: Mapping[str, tuple[str, ...]], reserved: Reserved) -> Verdict | None:
    """Judge a request. `nodes`: name → the addresses that each node claims."""
    name = request.user.removeprefix(NODE_USER)
    if fault := _sender_fault(request):
        return Verdict(False, fault)
    if isinstance(request.names, str):
        return Verdict(False, f"the request can't be read: {request.names}")
    if fault := identity_fault(request.names, request.user) or _names_fault(request.names, name, reserved):
        return Verdict(False, fault)
    if name not in nodes:
        return None  # kubelet asks before it has made its Node
    claims = {node: _addresses(claimed) for node, claimed in nodes.items()}
    taken = _addresses(reserved.addresses)
    for address in request.names.addresses:
        if fault := _address_fault(address, name, claims, taken):
            return Verdict(False, fault)
    return Verdict(True, "its own name and addresses")


def _sender_fault(request: Request) -> str | None:
    if not request.user.startswith(NODE_USER) or request.user == NODE_USER or NODES not in request.groups:
        return f"{request.user} is no node"
    if _SERVER not in request.usages or not set(request.usages) <= _USAGES:
        return f"its usages are {', '.join(request.usages)} (expected {_SERVER}, and none but a server's)"
    return None


def _names_fault(names: RequestNames, name: str, reserved: Reserved) -> str | None:
    if reserved.name(name):
        return f"{name} is a name of the control plane or of a service, and of no node"
    if names.others:
        return "it has names that are neither DNS names nor addresses"
    if foreign := [one for one in names.dns if one != name]:
        return f"it has the name {foreign[0]} (expected {name} alone)"
    if not names.dns and not names.addresses:
        return "it has neither a name nor an address"
    return None


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
