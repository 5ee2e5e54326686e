"""A whole node whose names stand in Route 53: how many calls it makes of the account's five a second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.netns import Network
from tests.lab.route53 import Route53Server
from tests.lab.trial import CLUSTER, TrialNode, both, until, write_inventory

pytestmark = pytest.mark.root

GATEWAY = "10.77.0.1"
NAMES = {f"{name}.internal.{CLUSTER}." for name in ("api", "etcd-a", "etcd-events-a")} | {f"api.{CLUSTER}."}


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(f"{GATEWAY}/24") as network:
        yield network


def test_a_bootstrap_makes_at_most_six_calls(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two etcd clusters, internal and external names, in a zone with a thousand other records."""
    inventory = write_inventory(tmp_path, *both())
    both_addresses = '"10.1.2.3", "externalAddress": "203.0.113.7"'
    inventory.write_text(inventory.read_text().replace('"10.1.2.3"', both_addresses))
    with network.switch.inside():
        server = Route53Server(GATEWAY)
        server.__enter__()
    try:
        server.environment(monkeypatch)
        zone = server.create_zone(CLUSTER)
        server.fill(zone, 1000)
        at = network.node("10.77.0.11/24", gateway=GATEWAY)
        with TrialNode(tmp_path / "a", inventory, network=at, options=("--dns", "route53")) as node:
            node.start_daemon()
            links = [node.root / f"etc/kubernetes/manifests/etcd{one}.manifest" for one in ("", "-events")]
            until("the names stand", lambda: addresses(server, zone) >= NAMES)
            until("the manifests are linked", lambda: all(link.is_symlink() for link in links))
        assert server.calls.total() <= 6, server.calls
    finally:
        server.__exit__()


def addresses(server: Route53Server, zone: str) -> set[str]:
    """The names under which addresses stand."""
    return {one["Name"] for one in server.records(zone) if one["Type"] == "A"}
