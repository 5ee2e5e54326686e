"""Masters that keep their names in one zone, step by step in an order that a seed decides, while some of them die.

Time is the fleet's own. A master's reconcile is a generator that stops between any two calls; whoever drives the
fleet picks which one goes on, and may kill a master at any stop. What a killed master remembered is lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from protokube.core.dns.changes import RecordPolicy, decide_records
from protokube.core.dns.model import MemberNode
from protokube.core.dns.names import Naming, member_nodes, wanted_records
from protokube.core.dns.owners import Absences, terminated_owners
from protokube.core.volumes.model import EtcdMember, Instance, Peer, PeerState
from protokube.errors import ProviderError
from protokube.ports import DNSProvider

NAMING = Naming("c1.test", ".internal.c1.test")
MEMBERS = tuple("abcdefghijklmnopqrstuvwxyz")
Addresses = Mapping[str, frozenset[str]]


@dataclass
class Master:
    """One instance. `listed`: the cloud's answers contain it; `up`: it runs."""

    id: str
    members: tuple[EtcdMember, ...]
    address: str
    provider: DNSProvider
    state: PeerState = PeerState.RUNNING
    listed: bool = True
    up: bool = True
    absences: Absences = field(default_factory=Absences)
    writes: int = 0
    failures: int = 0

    @property
    def internal(self) -> tuple[str, ...]:
        return (f"10.0.0.{self.address}", f"fd00::{self.address}")

    @property
    def external(self) -> tuple[str, ...]:
        return (f"198.51.100.{self.address}",)


class Fleet:
    """`provider` makes each master its own; `look` tells what clients of the names get, past the provider.

    A reconcile's batches run in any order (`trouble` decides) and each may be lost, with the probability `loss`.
    """

    def __init__(self, size: int, provider: Callable[[], DNSProvider], look: Callable[[], Addresses]) -> None:
        self._provider = provider
        self._look = look
        self._size = size
        self._next_address = size + 1
        self.now = 1_000.0
        self.trouble = random.Random(0)
        self.loss = 0.0
        self.masters = {f"i-{i}": self._master(f"i-{i}", i - 1, str(i)) for i in range(1, size + 1)}
        self.reconciles: dict[str, Iterator[None]] = {}
        self.filled: set[str] = set()

    def _master(self, id_: str, index: int, address: str) -> Master:
        names = MEMBERS[: self._size]
        members = tuple(EtcdMember(cluster, names[index], names) for cluster in ("main", "events"))
        return Master(id_, members, address, self._provider())

    # --- one step ---

    def step(self, id_: str) -> None:
        """Let a master go on to its next stop, beginning a reconcile when none is under way."""
        if id_ not in self.reconciles:
            self.reconciles[id_] = self._reconcile(self.masters[id_])
        try:
            next(self.reconciles[id_])
        except StopIteration:
            del self.reconciles[id_]
        self.check()

    def _reconcile(self, master: Master) -> Iterator[None]:
        peers = tuple(
            Peer(one.id, one.internal, one.external, one.state, {member.cluster: member.me for member in one.members})
            for one in self.masters.values()
            if one.listed and (one.members or one is master)
        )
        held = tuple(master.members)
        instance = Instance(master.id, master.id, "z", "c1.test", master.internal, master.external)
        yield
        views: tuple[MemberNode, ...] = member_nodes(peers, {})
        desired = wanted_records(NAMING, instance, views, ours=held, mounted=held, private=False)
        try:
            observed = master.provider.record_sets(desired.names)
            owners = {one.owner for found in observed.values() for one in found.owned if one.owner is not None}
            master.absences = master.absences.seen(self.now, master.id, peers, owners)
            gone = terminated_owners(master.id, peers, master.absences.absent_for())
            plan = decide_records(desired, observed, RecordPolicy(gone, removals=2))
            assert plan.refusals == ()
            for batch in self.trouble.sample(plan.batches, len(plan.batches)):
                yield
                if self.trouble.random() < self.loss:
                    master.failures += 1
                    continue
                master.provider.change(batch.changes)
                master.writes += 1
        except ProviderError:
            master.failures += 1

    def check(self) -> None:
        """No name that was ever filled is empty."""
        now = self._look()
        empty = {name for name in self.filled if not now.get(name)}
        assert not empty, f"{sorted(empty)} became empty"
        self.filled |= {name for name, addresses in now.items() if addresses}

    # --- what happens to masters ---

    def kill(self, id_: str) -> None:
        """The process ends between two calls; it starts again with nothing remembered."""
        self.reconciles.pop(id_, None)
        self.masters[id_].absences = Absences()

    def die(self, id_: str, *, visibly: bool) -> None:
        """The instance is terminated: the cloud says so, or just stops listing it."""
        self.kill(id_)
        master = self.masters[id_]
        master.up = False
        master.state = PeerState.TERMINATED
        master.listed = visibly

    def replace(self, id_: str, *, reuse: bool = False) -> str:
        """A new instance takes the dead one's volumes, at another address, or at the one that became free."""
        dead = self.masters[id_]
        members, dead.members = dead.members, ()
        new = f"{id_}-new"
        address = dead.address if reuse else str(self._next_address)
        self.masters[new] = Master(new, members, address, self._provider())
        self._next_address += 1
        return new

    def move(self, id_: str) -> None:
        """The instance stops and starts, and has another address then."""
        self.kill(id_)
        self.masters[id_].address = str(self._next_address)
        self._next_address += 1

    @property
    def living(self) -> list[str]:
        return sorted(id_ for id_, master in self.masters.items() if master.up)

    # --- the way to the end ---

    def settle(self, reconciles: int = 40, pause: float = 61.0) -> None:
        """Whole reconciles of all living masters until none of them writes for eleven minutes."""
        quiet = 0.0
        for _ in range(reconciles):
            before = sum(master.writes + master.failures for master in self.masters.values())
            for id_ in self.living:
                self.step(id_)
                while id_ in self.reconciles:
                    self.step(id_)
            self.now += pause
            same = before == sum(master.writes + master.failures for master in self.masters.values())
            quiet = quiet + pause if same else 0.0
            if quiet > 660:
                return
        raise AssertionError(f"no rest after {reconciles} reconciles")

    def expected(self) -> dict[str, frozenset[str]]:
        """What each name should hold: exactly the living masters' addresses."""
        living = [self.masters[id_] for id_ in self.living]
        found = {
            NAMING.api_internal: frozenset(value for one in living for value in one.internal),
            NAMING.api: frozenset(value for one in living for value in one.external),
        }
        for one in living:
            for member in one.members:
                found[NAMING.member(member.cluster, member.me)] = frozenset(one.internal)
        return found

    def addresses(self) -> dict[str, frozenset[str]]:
        """What the names hold now."""
        return {name: values for name, values in self._look().items() if values}


def five_masters(fleet: Fleet, seed: int, steps: int = 120) -> None:
    """Five start at once; two die; one of them comes back with another address; kills and orders are the seed's."""
    chance = random.Random(seed)
    fleet.trouble, fleet.loss = random.Random(-seed), 0.1
    events = {chance.randrange(10, steps - 20) for _ in range(3)}
    dead: list[str] = []
    returned = False
    for count in range(steps):
        fleet.now += chance.uniform(0, 20)
        fleet.step(chance.choice(fleet.living))
        if chance.random() < 0.05:
            fleet.kill(chance.choice(fleet.living))
        if count in events and len(dead) < 2:
            dead.append(chance.choice(fleet.living))
            fleet.die(dead[-1], visibly=chance.random() < 0.5)
        elif len(dead) == 2 and not returned and chance.random() < 0.1:
            fleet.replace(dead[0], reuse=chance.random() < 0.3)
            fleet.move(chance.choice(fleet.living))
            returned = True
    while len(dead) < 2:
        dead.append(chance.choice(fleet.living))
        fleet.die(dead[-1], visibly=chance.random() < 0.5)
    if not returned:
        fleet.replace(dead[0])
    fleet.loss = 0.0
    fleet.settle()
