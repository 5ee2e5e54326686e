"""Addresses and their changes, in real network namespaces."""

from __future__ import annotations

import asyncio
import ipaddress
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress

import pytest
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from protokube.errors import ProviderError
from protokube.host.network import default_addresses
from protokube.host.networkevents import watch_addresses
from tests.lab.netns import Namespace, Network

pytestmark = pytest.mark.root

LIMIT = 120.0
GATEWAY = "10.77.0.1"


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(f"{GATEWAY}/24") as network:
        yield network


def addresses(node: Namespace, *in_use: str) -> tuple[str, ...]:
    with node.inside():
        return default_addresses(in_use)


def test_nothing_without_a_default_route(network: Network) -> None:
    assert addresses(network.node("10.77.0.11/24")) == ()


def test_only_the_default_routes_interface_counts(network: Network) -> None:
    node = network.node("10.77.0.11/24", gateway=GATEWAY)
    node.ip("link", "add", "cni0", "type", "bridge")
    node.ip("addr", "add", "10.244.0.1/24", "dev", "cni0")
    node.ip("link", "set", "cni0", "up")
    assert addresses(node) == ("10.77.0.11",)


def test_ipv4_before_ipv6_and_global_only(network: Network) -> None:
    node = network.node("fd00:77::11/64", "10.77.0.11/24", gateway=GATEWAY)
    node.ip("addr", "add", "169.254.9.9/16", "dev", "eth0", "scope", "link")
    assert addresses(node) == ("10.77.0.11", "fd00:77::11")  # and no fe80::


def test_the_address_in_use_is_kept_and_else_the_oldest_is_taken(network: Network) -> None:
    node = network.node("10.77.0.11/24", "10.77.0.12/24", "10.77.9.9/32", gateway=GATEWAY)
    assert addresses(node) == ("10.77.0.11",)
    assert addresses(node, "10.77.0.12") == ("10.77.0.12",)
    assert addresses(node, "10.77.0.13") == ("10.77.0.11",)


def test_a_floating_ipv6_address_is_not_the_nodes(network: Network) -> None:
    """The kernel lists the newest IPv6 address first."""
    node = network.node("10.77.0.11/24", "fd00:77::11/64", gateway=GATEWAY)
    node.ip("addr", "add", "fd00:77::100/128", "dev", "eth0", "nodad")
    node.ip("addr", "add", "fd00:77::101/64", "dev", "eth0", "nodad")
    assert addresses(node) == ("10.77.0.11", "fd00:77::11")
    assert addresses(node, "10.77.0.11", "fd00:77::11") == ("10.77.0.11", "fd00:77::11")


def test_a_primary_address_that_was_away_comes_back(network: Network) -> None:
    """A secondary address is listed before a primary that was deleted and added again."""
    node = network.node("10.77.0.11/24")
    node.run("sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1")
    node.ip("addr", "add", "10.77.0.100/24", "dev", "eth0")
    node.ip("addr", "del", "10.77.0.11/24", "dev", "eth0")
    node.ip("addr", "add", "10.77.0.11/24", "dev", "eth0")
    node.ip("route", "replace", "default", "via", GATEWAY)
    assert addresses(node, "10.77.0.11") == ("10.77.0.11",)


def test_the_source_that_the_route_prefers_comes_first(network: Network) -> None:
    node = network.node("10.77.0.11/24", "10.77.0.12/24")
    node.ip("route", "add", "default", "via", GATEWAY, "src", "10.77.0.12")
    assert addresses(node) == ("10.77.0.12",)


def test_the_source_that_the_route_prefers_may_be_on_another_interface(network: Network) -> None:
    """Routed hosts have their address on lo, and only the links' addresses on the way out, or none."""
    node = network.node()
    node.ip("addr", "add", "10.99.0.1/32", "dev", "lo")
    node.ip("addr", "add", "fd00:99::1/128", "dev", "lo", "nodad")
    node.ip("route", "add", GATEWAY, "dev", "eth0")
    node.ip("route", "add", "default", "via", GATEWAY, "dev", "eth0", "src", "10.99.0.1")
    node.ip("-6", "route", "add", "default", "dev", "eth0", "src", "fd00:99::1")
    assert addresses(node) == ("10.99.0.1", "fd00:99::1")
    node.ip("addr", "add", "10.77.0.10/31", "dev", "eth0")
    assert addresses(node) == ("10.99.0.1", "fd00:99::1")


def test_the_lowest_metric_wins(network: Network) -> None:
    node = network.node("10.77.0.11/24")
    network.plug(node, "wlan0")
    node.ip("addr", "add", "10.78.0.5/24", "dev", "wlan0")
    node.ip("route", "add", "default", "via", "10.78.0.1", "metric", "600")
    node.ip("route", "add", "default", "via", GATEWAY, "metric", "100")
    assert addresses(node) == ("10.77.0.11",)


def test_a_default_route_of_another_table_is_none_of_ours(network: Network) -> None:
    node = network.node("10.77.0.11/24")
    node.ip("route", "add", "default", "via", GATEWAY, "table", "1000")
    node.ip("route", "add", "blackhole", "default")
    assert addresses(node) == ()


def test_ipv6_has_its_own_way_out(network: Network) -> None:
    node = network.node("10.77.0.11/24", "fd00:77::11/64", gateway=GATEWAY)
    network.plug(node, "eth1")
    node.ip("addr", "add", "fd00:78::11/64", "dev", "eth1", "nodad")
    node.ip("-6", "route", "add", "default", "via", "fd00:78::1")
    assert addresses(node) == ("10.77.0.11", "fd00:78::11")


def test_ipv6_alone(network: Network) -> None:
    node = network.node("fd00:77::11/64", gateway="fd00:77::1")
    assert addresses(node) == ("fd00:77::11",)


def test_an_unproven_or_deprecated_ipv6_address_waits(network: Network) -> None:
    node = network.node("fd00:77::11/64", gateway="fd00:77::1")
    node.ip("addr", "add", "fd00:77::12/64", "dev", "eth0", "nodad", "preferred_lft", "0")
    assert addresses(node) == ("fd00:77::11",)


def test_several_next_hops(network: Network) -> None:
    node = network.node("10.77.0.11/24")
    node.ip("route", "add", "default", "nexthop", "via", GATEWAY, "nexthop", "via", "10.77.0.2")
    assert addresses(node) == ("10.77.0.11",)


def test_an_address_list_larger_than_one_answer(network: Network) -> None:
    node = network.node("10.77.0.11/24", gateway=GATEWAY)
    first = ipaddress.ip_address("10.79.0.1")
    batch = "".join(f"addr add {first + number}/24 dev eth0\n" for number in range(2000))
    node.run("ip", "-batch", "-", stdin=batch)
    assert addresses(node) == ("10.77.0.11",)
    assert addresses(node, str(first + 1999)) == (str(first + 1999),)


def test_routes_of_containers_are_not_even_parsed(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network plugin makes thousands, and every reconcile reads them."""
    node = network.node("10.77.0.11/24", gateway=GATEWAY)
    node.run("ip", "-batch", "-", stdin="".join(f"route add 10.80.{one}.0/24 via {GATEWAY}\n" for one in range(200)))
    parsed = []
    parse = rtmsg.decode

    def counted(message: object) -> None:
        parsed.append(message)
        parse(message)

    monkeypatch.setattr(rtmsg, "decode", counted)
    assert addresses(node) == ("10.77.0.11",)
    assert len(parsed) == 1


def test_a_kernel_that_refuses_is_an_error(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protokube.host.rtnetlink.rtnl.RTM_GETADDR", 0x7F0)
    with pytest.raises(ProviderError, match=r"request 2032 was refused: .*; the unit needs"):
        addresses(network.node("10.77.0.11/24", gateway=GATEWAY))


def test_of_pyroute2_only_its_messages_are_loaded() -> None:
    """All of it would cost 0.1 s and 14 MB. Whoever wants all of it later gets it."""
    code = (
        "import sys; from protokube.host.network import default_addresses; default_addresses(); "
        "loaded = [name for name in sys.modules if name.startswith('pyroute2')]; "
        "assert 0 < len(loaded) < 20, loaded; "
        "import pyroute2; assert pyroute2.IPRoute"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], timeout=60, check=True)


# --- watching ----------------------------------------------------------------------------------------

Scenario = Callable[[Namespace, "Wakes"], Coroutine[None, None, None]]


class Wakes:
    """Collects the reasons that the watcher gives."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._queue: asyncio.Queue[str] = asyncio.Queue()

    def __call__(self, reason: str) -> None:
        self.heard.append(reason)
        self._queue.put_nowait(reason)

    async def next(self, text: str) -> None:
        async with asyncio.timeout(LIMIT):
            while text not in await self._queue.get():
                pass


async def until_listening(node: Namespace, wakes: Wakes) -> None:
    """The watcher tells of its first change; until then it may not have looked yet."""
    number = 100
    while not wakes.heard:
        number += 1
        node.ip("addr", "add", f"10.77.1.{number}/32", "dev", "eth0")
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await wakes.next("")
    wakes.heard.clear()


def watch(node: Namespace, scenario: Scenario) -> None:
    async def both() -> None:
        wakes = Wakes()
        watcher = asyncio.create_task(watch_addresses(wakes, debounce=0.05))
        try:
            await until_listening(node, wakes)
            await scenario(node, wakes)
            assert not watcher.done()
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    with node.inside():
        asyncio.run(both())


async def an_address_comes_and_goes(node: Namespace, wakes: Wakes) -> None:
    node.ip("addr", "add", "10.77.0.99/24", "dev", "eth0")
    await wakes.next("10.77.0.99")
    node.ip("addr", "del", "10.77.0.99/24", "dev", "eth0")
    await wakes.next("10.77.0.99")


async def an_ipv6_address_comes(node: Namespace, wakes: Wakes) -> None:
    node.ip("addr", "add", "fd00:77::9/64", "dev", "eth0", "nodad")
    await wakes.next("fd00:77::9")


async def the_default_route_goes(node: Namespace, wakes: Wakes) -> None:
    node.ip("route", "del", "default")
    await wakes.next("→ none")


async def container_interfaces_wake_nobody(node: Namespace, wakes: Wakes) -> None:
    for number in range(20):
        node.ip("link", "add", f"veth{number}", "type", "bridge")
        node.ip("addr", "add", f"10.244.{number}.1/24", "dev", f"veth{number}")
        node.ip("link", "set", f"veth{number}", "up")
        node.ip("link", "del", f"veth{number}")
    node.ip("addr", "add", "10.77.0.99/24", "dev", "eth0")
    await wakes.next("10.77.0.99")
    assert len(wakes.heard) == 1


async def a_burst_is_one_wake_or_few(node: Namespace, wakes: Wakes) -> None:
    batch = "".join(f"addr add 10.79.0.{number}/32 dev eth0\n" for number in range(1, 200))
    node.run("ip", "-batch", "-", stdin=batch)
    await wakes.next("10.79.0.199")
    assert len(wakes.heard) < 20


async def an_overrun_socket_is_replaced(node: Namespace, wakes: Wakes) -> None:
    """While the loop is busy the kernel has more to say than its buffer holds."""
    node.run("ip", "-batch", "-", stdin="addr add 10.80.0.1/32 dev lo\naddr del 10.80.0.1/32 dev lo\n" * 3000)
    node.ip("addr", "add", "10.77.0.98/24", "dev", "eth0")
    await wakes.next("10.77.0.98")
    node.ip("addr", "add", "10.77.0.99/24", "dev", "eth0")
    await wakes.next("10.77.0.99")


@pytest.mark.parametrize(
    "scenario",
    [
        an_address_comes_and_goes,
        an_ipv6_address_comes,
        the_default_route_goes,
        container_interfaces_wake_nobody,
        a_burst_is_one_wake_or_few,
        an_overrun_socket_is_replaced,
    ],
)
def test_changes(network: Network, scenario: Scenario) -> None:
    watch(network.node("10.77.0.11/24", gateway=GATEWAY), scenario)
