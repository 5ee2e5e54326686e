"""The kernel's routes and addresses, and events of their change: rtnetlink(7), as pyroute2 parses it.

Of pyroute2 only the messages are loaded, and they travel on a socket of our own. That costs 4 ms and 0.6 MB. All of
pyroute2, with its event loop, traffic control and WireGuard, would cost 0.1 s of every start and 14 MB for good.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from protokube.core.node.addresses import Address, DefaultRoute


@contextmanager
def _without_init(package: str) -> Iterator[None]:
    """Import modules of a package without running its __init__, which would import all the others.

    The package itself isn't kept, so that a later import of it is a whole one.
    """
    if package in sys.modules:
        yield
        return
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    sys.modules[package] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[package]


with _without_init("pyroute2"):
    from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, rtnl
    from pyroute2.netlink.marshal import Marshal
    from pyroute2.netlink.rtnl import ifaddrmsg as addresses_
    from pyroute2.netlink.rtnl import rt_type
    from pyroute2.netlink.rtnl.rtmsg import RT_SCOPE_UNIVERSE, rtmsg

_READ_LIMIT = 5.0  # seconds for one answer of the kernel
_LARGEST = 1 << 18  # bytes; the kernel fills at most 32 KiB
_MAIN_TABLE = 254  # RT_TABLE_MAIN of linux/rtnetlink.h
_DESTINATION, _SCOPE = 17, 19  # where, after the header of 16 bytes, rtmsg has dst_len and ifaddrmsg its scope
_UNUSABLE = addresses_.IFA_F_DADFAILED | addresses_.IFA_F_DEPRECATED | addresses_.IFA_F_TENTATIVE
_CHANGES = rtnl.RTMGRP_IPV4_IFADDR | rtnl.RTMGRP_IPV4_ROUTE | rtnl.RTMGRP_IPV6_IFADDR | rtnl.RTMGRP_IPV6_ROUTE


class _Reader(Marshal):  # type: ignore[misc]
    """Parses default routes and addresses of global scope.

    The others are skipped: each takes 0.1 ms, and a node with a network plugin may have thousands.
    """

    msg_map = {rtnl.RTM_NEWADDR: addresses_.ifaddrmsg, rtnl.RTM_NEWROUTE: rtmsg}  # noqa: RUF012 - as Marshal has it

    def parse_one_message(self, key: int, flags: int, sequence: int, data: bytes, offset: int, length: int) -> Any:
        """One message, or None to leave it out."""
        if key == rtnl.RTM_NEWROUTE and data[offset + _DESTINATION]:
            return None
        if key == rtnl.RTM_NEWADDR and data[offset + _SCOPE] != RT_SCOPE_UNIVERSE:
            return None
        return super().parse_one_message(key, flags, sequence, data, offset, length)


def read() -> tuple[list[DefaultRoute], list[Address]]:
    """The main table's default routes and all usable addresses, in the kernel's order. Raises OSError.

    Usable are addresses of global scope, but for temporary, deprecated and unproven IPv6 addresses.
    """
    with _socket() as link:
        link.settimeout(_READ_LIMIT)
        routes = [route for message in _dump(link, rtnl.RTM_GETROUTE, rtmsg) for route in _default_route(message)]
        found = _dump(link, rtnl.RTM_GETADDR, addresses_.ifaddrmsg)
        return routes, [address for message in found for address in _usable(message)]


def changes() -> socket.socket:
    """A socket, not blocking, that becomes readable when routes or addresses change."""
    link = _socket()
    try:
        link.setblocking(False)
        link.bind((0, _CHANGES))
    except OSError:
        link.close()
        raise
    return link


def _socket() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)


def _dump(link: socket.socket, request: int, kind: Callable[[], Any]) -> Iterator[Any]:
    """The kernel's objects of a kind, IPv4 first.

    Two requests, since a dump of all families leaves out IPv6 where there is no IPv4.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        link.send(_request(request, kind, family))
        yield from _answers(link, request)


@functools.cache  # each reconcile sends the same, and making a message takes as long as reading one
def _request(request: int, kind: Callable[[], Any], family: int) -> bytes:
    message = kind()
    message["family"] = family
    message["header"]["type"] = request
    message["header"]["flags"] = NLM_F_REQUEST | NLM_F_DUMP
    message.encode()
    return bytes(message.data)


def _answers(link: socket.socket, request: int) -> Iterator[Any]:
    reader = _Reader()
    while True:
        for answer in reader.parse(link.recv(_LARGEST)):
            kind = answer["header"]["type"]
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                code = abs(answer["error"])
                raise OSError(code, f"request {request} was refused: {os.strerror(code)}")
            yield answer


def _default_route(message: Any) -> Iterator[DefaultRoute]:
    table = message.get_attr("RTA_TABLE", message["table"])
    if message["type"] != rt_type["unicast"] or table != _MAIN_TABLE:
        return
    several = message.get_attr("RTA_MULTIPATH", ())  # of several next hops the first counts
    interface = message.get_attr("RTA_OIF", several[0]["oif"] if several else None)
    if interface is not None:  # a route through a nexthop object has none of its own here
        yield DefaultRoute(
            version=4 if message["family"] == socket.AF_INET else 6,
            metric=message.get_attr("RTA_PRIORITY", 0),
            interface=interface,
            source=message.get_attr("RTA_PREFSRC"),
        )


def _usable(message: Any) -> Iterator[Address]:
    unusable = _UNUSABLE
    if message["family"] == socket.AF_INET6:
        unusable |= addresses_.IFA_F_TEMPORARY  # the same bit says "secondary" of an IPv4 address
    flags = message.get_attr("IFA_FLAGS", message["flags"])
    # On a point-to-point link IFA_ADDRESS is the other end.
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    if text and not flags & unusable:
        created = message.get_attr("IFA_CACHEINFO", {"cstamp": 0})["cstamp"]
        yield Address(text, message["index"], message["prefixlen"], created)
