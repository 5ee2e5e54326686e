"""How reading and changing our names depends on the size of the zone: 10 against 10,000 other records.

Run it in namespaces of its own, since it starts servers on loopback:

    unshare --net --mount --propagation private python benchmarks/dns_zone_size.py

Prints the medians and their ratio, in one run, for Route 53 (moto's server, made to find a
name without going through the whole zone) and RFC 2136 (BIND).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import boto3
import pytest

from protokube.core.dns.model import ChangeKind, RecordChange
from protokube.dnsprovider.rfc2136 import Rfc2136, load_server
from protokube.dnsprovider.route53 import Route53
from protokube.ports import DNSProvider
from tests.lab import guard
from tests.lab.bind import Bind
from tests.lab.route53 import Route53Server

NAMES = frozenset({"api.c1.test", *(f"{one}.internal.c1.test" for one in ("api", "etcd-a", "etcd-events-a"))})
SIZES = (10, 10_000)
TIMES = 30


def median(action: Callable[[], object]) -> float:
    """Milliseconds, after one call to warm up."""
    action()
    spent = []
    for _ in range(TIMES):
        start = time.perf_counter()
        action()
        spent.append((time.perf_counter() - start) * 1000)
    return statistics.median(spent)


def change(provider: DNSProvider) -> None:
    provider.change(
        [
            RecordChange(ChangeKind.UPSERT, name, "A", ("10.0.0.1",), 60, "i-1", name.startswith("api"))
            for name in sorted(NAMES)
        ]
    )


def route53(size: int, patch: pytest.MonkeyPatch) -> dict[str, float]:
    with Route53Server() as server:
        server.environment(patch)
        zone = server.create_zone("c1.test")
        server.fill(zone, size)
        provider = Route53(internal_suffix=lambda: ".internal.c1.test")
        change(provider)
        bare = boto3.client("route53")
        asked = median(
            lambda: [
                bare.list_resource_record_sets(
                    HostedZoneId=zone, StartRecordName=name, StartRecordType="A", MaxItems="20"
                )
                for name in NAMES
            ]
        )
        server.calls.clear()
        read = median(lambda: provider.record_sets(NAMES))
        calls = sum(server.calls.values()) / (TIMES + 1)
        return {"calls": calls, "bare requests, ms": asked, "read, ms": read, "read / bare": read / asked}


def rfc2136(size: int, patch: pytest.MonkeyPatch) -> dict[str, float]:  # noqa: ARG001 - one signature for both
    with tempfile.TemporaryDirectory() as work:
        bind = Bind(Path(work))
        with (bind.work / "c1.test.db").open("a") as zone:
            zone.writelines(f"host-{i} IN A 10.9.{i // 256}.{i % 256}\n" for i in range(size))
        with bind:
            provider = Rfc2136(load_server(bind.server, bind.keyfile))
            change(provider)
            return {
                "read, ms": median(lambda: provider.record_sets(NAMES)),
                "change, ms": median(lambda: change(provider)),
            }


def main() -> None:
    guard.bring_loopback_up()
    guard.install(confined=True)
    for label, measure in (("Route 53", route53), ("RFC 2136", rfc2136)):
        with pytest.MonkeyPatch.context() as patch:
            small, large = (measure(size, patch) for size in SIZES)
        print(f"{label:10} {'':20} {SIZES[0]:>10} {SIZES[1]:>10} {'ratio':>8}")
        for key, value in small.items():
            print(f"{'':10} {key:20} {value:10.2f} {large[key]:10.2f} {large[key] / value:8.2f}")


if __name__ == "__main__":
    main()
