"""The node's own addresses: those that its default routes leave by.

rtnetlink is imported inside functions: pyroute2's messages (4 ms) are loaded where an address is asked for.
"""

from __future__ import annotations

from collections.abc import Collection

from protokube.core.node.addresses import Address, candidates, choose
from protokube.errors import ProviderError


def default_addresses(in_use: Collection[str] = ()) -> tuple[str, ...]:
    """The addresses at which other machines may reach this node: at most one of each family, IPv4 before IPv6.

    `in_use` are the node's last known ones; they are kept while they exist. core/node/addresses.py makes the choice.
    Empty when there is no default route. Raises ProviderError when the kernel can't be asked.
    """
    return choose(read_candidates(), in_use)


def read_candidates() -> tuple[Address, ...]:
    """The addresses among which that choice is made. Raises ProviderError when the kernel can't be asked."""
    from protokube.host import rtnetlink

    try:
        return candidates(*rtnetlink.read())
    except OSError as error:
        raise ProviderError(
            f"rtnetlink: reading routes and addresses failed: {error}; the unit needs "
            "RestrictAddressFamilies=AF_NETLINK"
        ) from error
