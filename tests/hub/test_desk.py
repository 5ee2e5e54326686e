"""The desk over a store, with links that are lists: what nodes are sent, and what is kept of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from protokube.core.model import Fault
from protokube.hub.auditfile import AuditFile
from protokube.hub.core.course import Outcome, Stage
from protokube.hub.core.membership import Issued, Member
from protokube.hub.core.messages import Cancel, Event, FromHub, NodeHello, Send
from protokube.hub.desk import Desk, Link, Submit
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
