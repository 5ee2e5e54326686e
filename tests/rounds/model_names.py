"""The model of names beside a real BIND and a strict Route 53: random batches of changes are seen the same.

The changes are those that a planner makes: each owner puts its own record under a shared name, the holder of a member
that under an exclusive one, and removes only what it has read.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from protokube.core.dns.model import ChangeKind, RecordChange, RecordType
from protokube.dnsprovider.rfc2136 import Rfc2136, load_server
from protokube.dnsprovider.route53 import Route53
from protokube.ports import DNSProvider
from tests.lab.bind import Bind
from tests.lab.dns_memory import MemoryDns, MemoryZone
from tests.lab.route53 import Route53Server

ZONE = "c1.test"
SHARED = f"api.internal.{ZONE}"
EXCLUSIVE = (f"etcd-a.internal.{ZONE}", f"etcd-b.internal.{ZONE}")
NAMES = frozenset({SHARED, *EXCLUSIVE})
OWNERS = ("i-1", "i-2")
STEPS = 20
_ADDRESSES: Mapping[RecordType, tuple[str, ...]] = {
    "A": ("10.0.0.1", "10.0.0.2", "10.0.0.3"),
    "AAAA": ("fd00::1", "fd00::2"),
}

Shown = dict[str, set[tuple[str, frozenset[str], str | None]]]


def shown(provider: DNSProvider) -> Shown:
    """What a planner sees of the names."""
    return {
        name: {(one.type, frozenset(one.values), one.owner) for one in found.owned}
        for name, found in provider.record_sets(NAMES).items()
    }


def change(pick: random.Random, seen: Shown) -> RecordChange:
    """One change of one owner, after a look."""
    name, owner = pick.choice(sorted(NAMES)), pick.choice(OWNERS)
    kind: RecordType = pick.choice(["A", "AAAA"])
    shared = name == SHARED
    mine = [values for type_, values, whose in seen[name] if type_ == kind and (whose in (owner, None) or not shared)]
    before = tuple(sorted(mine[0])) if mine else ()
    if before and pick.random() < 0.4:
        return RecordChange(ChangeKind.DELETE, name, kind, (), 60, owner, shared, before)
    values = tuple(sorted(pick.sample(_ADDRESSES[kind], pick.randint(1, 2))))
    return RecordChange(ChangeKind.UPSERT, name, kind, values, 60, owner, shared, before)


def _sequence(seed: int, real: DNSProvider, zone: MemoryZone) -> str:
    """Say where the two differ; empty when they don't."""
    pick = random.Random(seed)
    model = MemoryDns(zone)
    way: list[str] = []
    for _ in range(STEPS):
        one = change(pick, shown(model))
        way.append(one.describe())
        real.change([one])
        model.change([one])
        if (found := shown(real)) != (known := shown(model)):
            return f"after {'; '.join(way)}: the server shows {found}, the model {known}"
    return ""


def bind_differs(seed: int, folder: Path) -> str:
    """On a real BIND."""
    with Bind(folder, (ZONE,)) as bind:
        return _sequence(seed, Rfc2136(load_server(bind.server, bind.keyfile)), MemoryZone(by_type=True))


def route53_differs(seed: int, _: Path) -> str:
    """On a strict Route 53."""
    with Route53Server() as server, pytest.MonkeyPatch.context() as patch:
        server.environment(patch)
        server.create_zone(ZONE)
        return _sequence(seed, Route53(internal_suffix=lambda: f".internal.{ZONE}"), MemoryZone())
