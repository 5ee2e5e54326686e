"""Masters that share names on real servers: a real BIND and a strict Route 53, with the real providers."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protokube.dnsprovider.rfc2136 import Rfc2136, load_server
from protokube.dnsprovider.route53 import Route53
from protokube.ports import DNSProvider
from tests.lab.bind import Bind
from tests.lab.dns_fleet import NAMING, Addresses, Fleet, five_masters
from tests.lab.route53 import Route53Server

pytestmark = pytest.mark.root

NAMES = [NAMING.api, NAMING.api_internal] + [NAMING.member(c, m) for c in ("main", "events") for m in "abcde"]
Opened = tuple[Callable[[], DNSProvider], Callable[[], Addresses]]


@contextmanager
def on_bind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    with Bind(tmp_path) as bind:

        def look() -> Addresses:
            return {name: frozenset(bind.values(name, "A") | bind.values(name, "AAAA")) for name in NAMES}

        yield lambda: Rfc2136(load_server(bind.server, bind.keyfile)), look


@contextmanager
def on_route53(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    with Route53Server() as server:
        server.environment(monkeypatch)
        zone = server.create_zone("c1.test")

        def look() -> Addresses:
            found: dict[str, frozenset[str]] = {}
            for record in server.records(zone):
                if record["Type"] in ("A", "AAAA"):
                    name = record["Name"].rstrip(".")
                    found[name] = found.get(name, frozenset()) | frozenset(record["ResourceRecords"])
            return found

        yield lambda: Route53(internal_suffix=lambda: NAMING.internal_suffix), look


@pytest.fixture(params=[on_bind, on_route53], ids=["bind", "route53"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    with request.param(tmp_path, monkeypatch) as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_every_name_ends_with_exactly_the_living_and_is_never_empty(opened: Opened, seed: int) -> None:
    provider, look = opened
    fleet = Fleet(5, provider, look)
    five_masters(fleet, seed, steps=90)
    lost = fleet.masters.keys() - set(fleet.living)
    orphans = {NAMING.member(one.cluster, one.me) for id_ in lost for one in fleet.masters[id_].members}
    found = {name: values for name, values in fleet.addresses().items() if name not in orphans}
    assert found == fleet.expected()


def test_masters_that_write_at_the_same_moment_lose_nothing(opened: Opened) -> None:
    """Five threads, five addresses each, all through one name; a sixth watches that it never is empty."""
    provider, look = opened
    fleet = Fleet(5, provider, look)
    together = threading.Barrier(5)
    done = threading.Event()
    problems: list[str] = []

    def keep(id_: str) -> None:
        together.wait()
        for address in ("", "5", "6", "7", "8"):
            fleet.masters[id_].address = f"{id_.removeprefix('i-')}{address}"
            for _ in range(12):
                reconciles = fleet._reconcile(fleet.masters[id_])
                before = fleet.masters[id_].failures
                for _ in reconciles:
                    pass
                if fleet.masters[id_].failures == before:
                    break
            else:
                problems.append(f"{id_} never got its address {address!r} in")

    def watch() -> None:
        filled: set[str] = set()
        while not done.is_set():
            now = look()
            problems.extend(f"{name} became empty" for name in filled if not now.get(name))
            filled |= {name for name, values in now.items() if values}

    threads = [threading.Thread(target=keep, args=(id_,)) for id_ in fleet.living]
    watcher = threading.Thread(target=watch)
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    done.set()
    watcher.join(timeout=30)
    assert problems == []
    assert fleet.addresses() == fleet.expected()


@pytest.mark.parametrize(("size", "calls_a_reading"), [(10, 1), (10_000, 2)])
def test_a_reading_hardly_makes_more_calls_in_a_large_zone(
    monkeypatch: pytest.MonkeyPatch, size: int, calls_a_reading: int
) -> None:
    """One range; two where thousands of hosts stand between api and internal. What was written isn't read again."""
    with Route53Server() as server:
        server.environment(monkeypatch)
        server.fill(server.create_zone("c1.test"), size)
        fleet = Fleet(3, lambda: Route53(internal_suffix=lambda: NAMING.internal_suffix), dict)
        for _ in range(3):
            for id_ in fleet.living:
                fleet.step(id_)
                while id_ in fleet.reconciles:
                    fleet.step(id_)
    assert server.calls["ListResourceRecordSets"] == 2 * 3 * calls_a_reading
    assert server.calls["ChangeResourceRecordSets"] == 3


class Account:
    """One account's five requests a second, in a time of its own that the simulation sets."""

    LIMIT = 5

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()

    def admit(self) -> bool:
        self.now += 0.05  # what a request takes
        second = int(self.now)
        self.asked[second] += 1
        if self.asked[second] - self.refused[second] > self.LIMIT:
            self.refused[second] += 1
            return False
        return True


@pytest.mark.slow
def test_twenty_masters_share_five_requests_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """All start in the same second, each backs off by itself; later each reads every fifth minute-long reconcile."""
    chance = random.Random(20)
    account = Account()
    with Route53Server() as server:
        server.environment(monkeypatch)
        zone = server.create_zone("c1.test")
        server.admit = account.admit
        fleet = Fleet(20, lambda: Route53(internal_suffix=lambda: NAMING.internal_suffix), dict)
        due = dict.fromkeys(fleet.living, 0.0)
        tries: Counter[str] = Counter()
        read: dict[str, list[float]] = {id_: [] for id_ in fleet.living}
        end = 2700.0
        while min(due.values()) < end:
            id_ = min(due, key=lambda one: due[one])
            account.now = due[id_] + chance.uniform(0, 0.05)
            master = fleet.masters[id_]
            before = master.failures
            for _ in fleet._reconcile(master):
                pass
            if master.failures > before:
                tries[id_] += 1
                due[id_] = account.now + chance.uniform(0.5, 1.0) * min(60.0, 2.0 ** tries[id_])
            else:
                tries[id_] = 0
                read[id_].append(account.now)
                due[id_] = account.now + 5 * 60 * chance.uniform(0.9, 1.1)
        names = {record["Name"].rstrip(".") for record in server.records(zone) if record["Type"] == "A"}
    assert {name for name in names if name.startswith("etcd-")} == {
        NAMING.member(one.cluster, one.me) for master in fleet.masters.values() for one in master.members
    }
    assert all(times and times[0] < 600 for times in read.values()), "a node didn't recover from the cold start"
    converged = range(900, int(end))
    rate = sum(account.asked[second] for second in converged) / len(converged)
    assert rate < 1.0, f"{rate} requests a second when converged, of {Account.LIMIT} for the whole account"
    gaps = [later - sooner for times in read.values() for sooner, later in itertools.pairwise(times)]
    assert max(gaps) < 2 * 330, "a node's readings failed again and again when converged"
    assert all(master.writes == 1 for master in fleet.masters.values()), "a converged node wrote"
