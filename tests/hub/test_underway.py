"""What is under way in memory is what the store has, and an event costs the same on any hub."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from pathlib import Path

import pytest

from protokube.core.model import Fault
from protokube.hub.auditfile import AuditFile
from protokube.hub.core.course import Stage
from protokube.hub.core.membership import Issued, Member
from protokube.hub.core.messages import Event, FromHub, NodeHello, Send
from protokube.hub.core.rounds import Strategy
from protokube.hub.desk import Desk, Link, Submit
from protokube.hub.store import Store
from protokube.hub.underway import UnderWay
from tests.hub.lab import command


class Fleet:
    """A desk whose links are lists of frames, and whose clock stands still."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.folder, self.now = folder, 1000.0
        self.store = Store(folder / "hub.db")
        self.names = [f"n{number:04}" for number in range(nodes)]
        with self.store.transaction():
            for name in self.names:
                self.store.put_member(Member(name, (), 0.0, Issued("1", "k", "", 0.0, 1e9)))
        self.frames: dict[str, list[FromHub]] = {name: [] for name in self.names}
        self.start()

    def start(self) -> None:
        """Start the desk afresh: what it knows is in the database."""
        audit = AuditFile(self.folder / "audit.jsonl", lambda: self.now)
        self.desk = Desk(self.store, audit, lambda: self.now)

    def link(self, name: str, held: bool = False) -> Link:
        link = Link(name, NodeHello(name, "b", "v", "hub", held=held), self.frames[name].append)
        self.desk.attach(link)
        return link

    def submit(self, verb: str = "plan", strategy: Strategy = Strategy()) -> str:  # noqa: B008 - frozen
        args = {"reason": "x", "minutes": 1} if verb == "hold" else {}
        made = self.desk.submit(Submit(command(self.names, verb, args, self.now), strategy), "operator anna")
        assert not isinstance(made, Fault)
        return made

    def say(self, name: str, own: str, *kinds: str) -> None:
        link = self.desk.links[name]
        course = self.store.course(own, name)
        assert course is not None
        for number, kind in enumerate(kinds, course.seen + 1):
            data = {"outcome": "ok"} if kind == "done" else {}
            self.desk.hear(link, Event(own, number, kind, self.now, data))  # type: ignore[arg-type]

    def sent(self, name: str, own: str) -> int:
        return sum(isinstance(frame, Send) and own in frame.body for frame in self.frames[name])


@pytest.mark.parametrize("seed", range(3))
def test_the_memory_says_what_the_store_says(tmp_path: Path, seed: int) -> None:
    chance, fleet = random.Random(seed), Fleet(tmp_path, 6)
    names: list[str] = []
    for _ in range(60):
        match chance.randrange(7):
            case 0:
                names.append(fleet.submit(chance.choice(("plan", "sync", "hold")), Strategy(chance.randrange(3))))
            case 1:
                fleet.link(chance.choice(fleet.names), chance.random() < 0.2)
            case 2 if fleet.desk.links:
                fleet.desk.detach(fleet.desk.links[chance.choice(list(fleet.desk.links))])
            case 3 if names:
                fleet.desk.cancel(chance.choice(names), "operator anna")
            case 4:
                fleet.now += chance.choice((1.0, 200.0))
                fleet.desk.tick()
            case _ if names and fleet.desk.links:
                node, own = chance.choice(list(fleet.desk.links)), chance.choice(names)
                course = fleet.store.course(own, node)
                if course is not None and course.stage in (Stage.SENT, Stage.ACCEPTED, Stage.STARTED):
                    fleet.say(node, own, chance.choice(("accepted", "started", "done")))
        open_ones = {kept.id: fleet.store.courses(kept.id) for kept in fleet.store.open_commands()}
        assert {one.id: dict(one.courses) for one in fleet.desk.running()} == open_ones
        twice = Counter({own: max(fleet.sent(node, own) for node in fleet.names) for own in names})
        assert all(count >= 0 for count in twice.values())
        if chance.random() < 0.05:
            fleet.start()
            for name in chance.sample(fleet.names, 3):
                fleet.link(name)


def test_a_rolling_change_goes_on_when_the_one_before_is_done(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, 5)
    for name in fleet.names:
        fleet.link(name)
    own = fleet.submit("sync", Strategy(2))
    for done, name in enumerate(fleet.names, 1):
        assert sum(fleet.sent(one, own) for one in fleet.names) == min(5, done + 1)
        fleet.say(name, own, "accepted", "started", "done")
    assert fleet.desk.running() == []


def test_a_change_waits_for_the_one_before_and_for_the_end_of_a_hold(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, 1)
    link = fleet.link("n0000", held=True)
    first, second = fleet.submit("sync"), fleet.submit("sync")
    assert fleet.sent("n0000", first) == 0
    fleet.desk.greeted(link, NodeHello("n0000", "b", "v", "hub"))
    assert (fleet.sent("n0000", first), fleet.sent("n0000", second)) == (1, 0)
    fleet.say("n0000", first, "accepted", "started", "done")
    assert fleet.sent("n0000", second) == 1


def test_an_event_asks_the_database_for_no_other_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(tmp_path, 20)
    for name in fleet.names:
        fleet.link(name)
    own = fleet.submit()

    def refuse(*_: object) -> object:
        raise AssertionError("the whole command was read again")

    with monkeypatch.context() as patched:
        for method in ("courses", "unfinished", "open_commands", "members"):
            patched.setattr(Store, method, refuse)
        fleet.desk.tick()
        for name in fleet.names:
            fleet.say(name, own, "accepted", "started", "done")
        fleet.desk.tick()
    assert fleet.desk.running() == []


def test_what_isn_t_open_is_nothing() -> None:
    under_way = UnderWay()
    assert under_way.get(str(uuid.uuid4())) is None and under_way.next() is None and under_way.every() == []
