"""The node's own addresses: those of the interfaces that its default routes leave by, and word of their change.

Both speak rtnetlink(7) directly. Reading happens before the first manifest and takes 0.3 ms, and what watching hears
is not even parsed, while pyroute2's import would take 0.1 s of the start and 12 MB for good.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from msgspec import Struct

from protokube.errors import ProviderError

_READ_LIMIT = 5.0  # seconds for one answer of the kernel
_DEBOUNCE = 0.2  # seconds; containers come and go in bursts

# From linux/netlink.h, linux/rtnetlink.h and linux/if_addr.h.
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST_DUMP = 0x301
_RTM_NEWADDR, _RTM_GETADDR, _RTM_NEWROUTE, _RTM_GETROUTE = 20, 22, 24, 26
_RTA_OIF, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_MULTIPATH, _RTA_TABLE = 4, 6, 7, 9, 15
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_RT_TABLE_MAIN, _RTN_UNICAST, _SCOPE_UNIVERSE = 254, 1, 0
_F_TEMPORARY, _F_DADFAILED, _F_DEPRECATED, _F_TENTATIVE = 0x01, 0x08, 0x20, 0x40
_GROUPS = 0x10 | 0x40 | 0x100 | 0x400  # RTMGRP_IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE


class _DefaultRoute(Struct, frozen=True):
    """One default route of the main table. `interface` is an index; `source` the address it prefers to use."""

    metric: int
    interface: int
    source: str | None


class _Address(Struct, frozen=True):
    interface: int
    text: str


def default_addresses() -> tuple[str, ...]:
    """The addresses that other machines may reach this node by, as the kernel has them now.

    IPv4 before IPv6, each from the interface of that family's best default route (without one: of the other
    family's). Global scope only, without temporary, deprecated and unproven IPv6 addresses. The address that
    the route itself prefers comes first, then the kernel's order: primary before secondary. Empty when there
    is no default route.
    """
    try:
        with _socket() as link:
            link.settimeout(_READ_LIMIT)
            best = {family: _best_route(link, family) for family in (socket.AF_INET, socket.AF_INET6)}
            addresses = {family: list(_addresses(link, family)) for family in best}
    except OSError as error:
        raise ProviderError(
            f"rtnetlink: reading routes and addresses failed: {error}; the unit needs "
            "RestrictAddressFamilies=AF_NETLINK"
        ) from error
    chosen: list[str] = []
    for family, other in ((socket.AF_INET, socket.AF_INET6), (socket.AF_INET6, socket.AF_INET)):
        route = best[family] or best[other]
        if route is not None:
            own = [address.text for address in addresses[family] if address.interface == route.interface]
            chosen += sorted(own, key=lambda text, first=route.source: text != first)  # type: ignore[misc]
    return tuple(chosen)


async def watch_addresses(wake: Callable[[str], None], *, debounce: float = _DEBOUNCE) -> None:
    """Call `wake` with a reason whenever default_addresses() has changed. Runs until it is cancelled.

    Events of any interface only cause a look; what is compared are the addresses themselves. So a burst of
    container interfaces wakes nobody, and a lost event (the kernel's buffer overran) is made up for by the next.
    """
    loop = asyncio.get_running_loop()
    try:
        with _socket() as link:
            link.setblocking(False)
            link.bind((0, _GROUPS))
            known = default_addresses()
            while True:
                await _event(loop, link)
                await asyncio.sleep(debounce)
                _drain(link)
                now = default_addresses()
                if now != known:
                    wake(f"addresses: {', '.join(known) or 'none'} → {', '.join(now) or 'none'}")
                    known = now
    except OSError as error:
        raise ProviderError(f"rtnetlink: watching addresses failed: {error}") from error


async def _event(loop: asyncio.AbstractEventLoop, link: socket.socket) -> None:
    with _overrun_is_an_event():
        await loop.sock_recv(link, 1)


def _drain(link: socket.socket) -> None:
    """Take everything that has come; the look after it sees what it was about."""
    with suppress(BlockingIOError):
        while True:
            with _overrun_is_an_event():
                link.recv(1)


@contextmanager
def _overrun_is_an_event() -> Iterator[None]:
    """The kernel says once that it had to drop events (ENOBUFS), and goes on with the next ones."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise


# --- rtnetlink ---------------------------------------------------------------------------------------


def _socket() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)


def _best_route(link: socket.socket, family: int) -> _DefaultRoute | None:
    return min(_default_routes(link, family), key=lambda route: route.metric, default=None)


def _default_routes(link: socket.socket, family: int) -> Iterator[_DefaultRoute]:
    for body in _dump(link, _RTM_GETROUTE, _RTM_NEWROUTE, struct.pack("BBBBBBBBI", family, *[0] * 8)):
        _, length, _, _, table, _, _, kind, _ = struct.unpack_from("BBBBBBBBI", body)
        attributes = dict(_attributes(body[12:]))
        if _RTA_TABLE in attributes:
            table = _u32(attributes[_RTA_TABLE])
        if length == 0 and kind == _RTN_UNICAST and table == _RT_TABLE_MAIN:
            if _RTA_OIF in attributes:
                interface = _u32(attributes[_RTA_OIF])
            elif _RTA_MULTIPATH in attributes:  # struct rtnexthop: len, flags, hops, ifindex; the first counts
                interface = struct.unpack_from("HBBi", attributes[_RTA_MULTIPATH])[3]
            else:
                continue  # a route through a nexthop object, which has no interface of its own here
            source = attributes.get(_RTA_PREFSRC)
            yield _DefaultRoute(
                metric=_u32(attributes.get(_RTA_PRIORITY, bytes(4))),
                interface=interface,
                source=str(ipaddress.ip_address(source)) if source else None,
            )


def _addresses(link: socket.socket, family: int) -> Iterator[_Address]:
    for body in _dump(link, _RTM_GETADDR, _RTM_NEWADDR, struct.pack("BBBBI", family, 0, 0, 0, 0)):
        _, _, flags, scope, interface = struct.unpack_from("BBBBI", body)
        attributes = dict(_attributes(body[8:]))
        if _IFA_FLAGS in attributes:
            flags = _u32(attributes[_IFA_FLAGS])
        unwanted = _F_DADFAILED | _F_DEPRECATED | _F_TENTATIVE
        if family == socket.AF_INET6:
            unwanted |= _F_TEMPORARY  # the same bit says "secondary" of an IPv4 address
        # On a point-to-point link IFA_ADDRESS is the other end.
        raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
        if scope == _SCOPE_UNIVERSE and not flags & unwanted and raw:
            yield _Address(interface, str(ipaddress.ip_address(raw)))


def _dump(link: socket.socket, request: int, answer: int, header: bytes) -> Iterator[bytes]:
    """One dump: the body of each message of type `answer`."""
    link.send(struct.pack("IHHII", 16 + len(header), request, _NLM_F_REQUEST_DUMP, 0, 0) + header)
    while True:
        data = link.recv(1 << 18)
        while data:
            length, kind = struct.unpack_from("IH", data)
            body = data[16:length]
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                code = -struct.unpack_from("i", body)[0]
                raise OSError(code, f"the kernel refused request {request}")
            if kind == answer:
                yield body
            data = data[_aligned(length) :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("HH", data)
        yield kind, data[4:length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _u32(raw: bytes) -> int:
    return int(struct.unpack("I", raw)[0])
