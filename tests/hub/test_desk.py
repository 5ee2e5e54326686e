"""The desk over a store, with links that are lists: what nodes are sent, and what is kept of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from protokube.core.model import Fault
from protokube.hub.auditfile import AuditFile
from protokube.hub.core.course import Outcome, Stage
from protokube.hub.core.keeping import KEPT_SECONDS
from protokube.hub.core.membership import Issued, Member
from protokube.hub.core.messages import Ack, Cancel, Event, FromHub, NodeHello, Send
from protokube.hub.desk import TIDY, Desk, Link, Submit
from protokube.hub.store import Store
from tests.hub.lab import command


class Office:
    """A desk, and a node n0. `now` is its clock."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, time.time()
        self.start()

    def start(self) -> None:
        """Start the hub, or start it again."""
        self.store = Store(self.folder / "hub.db")
        self.store.put_member(Member("n0", (), 0.0, Issued("1", "k", "", 0.0, 1e12)))
        audit = AuditFile(self.folder / "audit.jsonl", lambda: self.now)
        self.desk = Desk(self.store, audit, lambda: self.now)

    def link(self) -> tuple[Link, list[FromHub]]:
        """A link of the node's, and what the hub puts into it."""
        frames: list[FromHub] = []
        link = Link("n0", NodeHello("n0", "boot", "1", "hub"), frames.append)
        self.desk.attach(link)
        return link, frames

    def submit(self, verb: str = "sync") -> str:
        """Send a command; its id."""
        made = self.desk.submit(Submit(command(["n0"], verb, {}, self.now)), "operator anna")
        assert not isinstance(made, Fault), made
        return made


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("linked", [False, True])
def test_a_cancel_isn_t_lost_with_the_link(office: Office, *, linked: bool, restarted: bool) -> None:
    link, frames = office.link()
    name = office.submit()
    assert isinstance(frames[-1], Send)
    if not linked:  # else it goes into a link that dies with it
        office.desk.detach(link)
    assert office.desk.cancel(name, "operator anna") is None
    office.desk.detach(link)
    if restarted:
        office.store.close()
        office.start()
    link, frames = office.link()
    # Not sent again: a node that never got it would start it.
    assert frames == [Cancel(name)]
    office.desk.hear(link, Event(name, 1, "accepted", 1.0))
    assert office.link()[1] == [Cancel(name)]
    office.desk.hear(link, Event(name, 2, "done", 1.0, {"outcome": "cancelled"}))
    course = office.store.course(name, "n0")
    assert course is not None and (course.stage, course.outcome) == (Stage.DONE, Outcome.CANCELLED)
    assert office.link()[1] == []


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota of 4000 bytes, of which 2000 are to be free for the next command."""
    monkeypatch.setattr("protokube.hub.quota.QUOTA", 4000)
    monkeypatch.setattr("protokube.hub.quota.ROOM", 2000)


def say(office: Office, link: Link, name: str, *events: tuple[str, int]) -> None:
    """Let the node say events, each with so many bytes."""
    course = office.store.course(name, "n0")
    assert course is not None
    for seq, (kind, size) in enumerate(events, course.seen + 1):
        office.desk.hear(link, Event(name, seq, kind, 1.0, {"text": "x" * size, "outcome": "ok"}))  # type: ignore[arg-type]


def kept(office: Office, name: str) -> list[str]:
    """The kinds of events that are kept of a command."""
    return [event.kind for event in office.store.events(name, "n0")]


@pytest.mark.usefixtures("small")
def test_the_oldest_commands_make_room_for_the_next(office: Office) -> None:
    link, _frames = office.link()
    names = []
    for _ in range(5):
        names.append(office.submit("plan"))
        say(office, link, names[-1], ("accepted", 1), ("started", 1), ("log", 800), ("done", 1))
        office.now += 1
    # An honest node's output is always there, and of older commands the newest.
    assert [len(kept(office, name)) for name in names] == [0, 0, 0, 4, 4]
    course = office.store.course(names[0], "n0")
    assert course is not None and course.outcome is Outcome.OK


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["accepted", "started", "progress", "log"])
def test_beyond_its_quota_a_node_adds_nothing_whatever_it_calls_it(office: Office, kind: str) -> None:
    link, _frames = office.link()
    name = office.submit("plan")
    say(office, link, name, ("accepted", 1), *[(kind, 500)] * 200)
    used = office.store.used("n0")
    assert used < 6000 and kept(office, name)[-1] == "progress"
    say(office, link, name, ("done", 1))
    assert kept(office, name)[-1] == "done" and office.store.used("n0") < used + 200


def test_what_was_said_is_forgotten_after_a_month(office: Office) -> None:
    link, _frames = office.link()
    name = office.submit("plan")
    say(office, link, name, ("accepted", 1), ("done", 1))
    office.desk.tick()
    assert kept(office, name) == ["accepted", "done"]
    office.now += KEPT_SECONDS + TIDY
    office.desk.tick()
    assert kept(office, name) == []


def test_events_that_come_together_have_one_acknowledgement(office: Office) -> None:
    link, frames = office.link()
    office.desk.wake = lambda: None
    name = office.submit("plan")
    say(office, link, name, ("accepted", 1), ("started", 1), ("log", 1))
    office.desk.take_in()
    assert [frame for frame in frames if isinstance(frame, Ack)] == [Ack(name, 3)]


def test_a_node_s_id_of_a_command_forges_no_line_of_the_log(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    link, _frames = office.link()
    office.desk.hear(link, Event("x\nnode n1: link up", 0, "refused", 1.0, {"check": "json"}))
    assert [record.getMessage().count("\n") for record in caplog.records if "refuses" in record.getMessage()] == [0]
