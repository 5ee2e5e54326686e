"""The hub's desk: takes commands, hands them to links in rounds, and keeps what the nodes say of them."""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

from msgspec import Struct, structs

from protokube.core.model import Fault
from protokube.hub.auditfile import AuditFile
from protokube.hub.core.checks import LONGEST, Refusal, read_body
from protokube.hub.core.course import ENDED, Course, Outcome, Stage, advances, heard, lapsed
from protokube.hub.core.keeping import KEPT_SECONDS
from protokube.hub.core.messages import Ack, Cancel, Event, FromHub, NodeHello, Send
from protokube.hub.core.rounds import Candidate, Over, Strategy, next_round
from protokube.hub.core.verbs import VERBS
from protokube.hub.page import Running
from protokube.hub.quota import Quota
from protokube.hub.store import Kept, Store
from protokube.hub.underway import UnderWay

TIDY = 86400.0
"""Seconds between looks for what is too old to be kept."""

log = logging.getLogger(__name__)


class Link:
    """A node's link, as the desk sees it: `put` hands it a frame."""

    def __init__(self, node: str, hello: NodeHello, put: Callable[[FromHub], None]) -> None:
        self.node = node
        self.hello = hello
        self.put = put


class Submit(Struct, frozen=True):
    """A command as an operator sends it; `key` and `sig` sign the text of `body`."""

    body: str
    strategy: Strategy = Strategy()
    key: str | None = None
    sig: str | None = None


class Desk:
    """Commands over a store. `clock`: seconds since the epoch."""

    def __init__(self, store: Store, audit: AuditFile, clock: Callable[[], float]) -> None:
        self._store = store
        self._audit = audit
        self._clock = clock
        self.links: dict[str, Link] = {}
        self._under_way = UnderWay()
        for kept in store.open_commands():
            self._under_way.add(kept, store.courses(kept.id))
        self._quota = Quota(store)
        self._tidied = -math.inf
        self._heard: list[tuple[Link, Event]] = []
        self.wake: Callable[[], None] = self.take_in
        """Called when something was heard; the server takes it in a moment later, with what comes meanwhile."""

    # --- operators ---

    def submit(self, asked: Submit, who: str) -> str | Fault:
        """Take a command and send its first round; its id, or why it isn't taken."""
        body = read_body(asked.body)
        if isinstance(body, Refusal):
            return body.faults[0]
        now = self._clock()
        unknown = [node for node in body.nodes if self._store.member(node) is None]
        if unknown or not body.nodes or len(set(body.nodes)) != len(body.nodes):
            return Fault("nodes", f"known nodes, each once, were expected; unknown: {', '.join(unknown) or 'none'}")
        if body.verb not in VERBS:
            return Fault("verb", f"one of {', '.join(VERBS)} was expected, got {body.verb[:64]!r}")
        if not now < body.deadline <= now + LONGEST:
            return Fault("deadline", f"within {LONGEST:.0f} s from now was expected, got {body.deadline - now:.0f} s")
        kept = Kept(
            body.id, asked.body, body.nodes, body.verb, body.deadline, asked.strategy, who, now, asked.key, asked.sig
        )
        self._audit.write(who, f"command {body.verb} for {', '.join(body.nodes[:16])}", body.id)
        try:
            self._store.add_command(kept)
        except sqlite3.IntegrityError:
            return Fault("id", f"{body.id}: there is a command of that id; give each its own")
        self._under_way.add(kept, {node: Course() for node in kept.nodes})
        self._go_on()
        return kept.id

    def cancel(self, command: str, who: str) -> Fault | None:
        """Cancel a command: where it wasn't sent it is skipped, where it was the node is asked."""
        kept = self._under_way.get(command)
        if kept is None:
            return Fault("id", f"{command}: there is no open command of that id")
        self._audit.write(who, "cancel", command)
        for node, course in list(self._under_way.courses(command).items()):
            if course.stage is Stage.QUEUED:
                self._keep(kept, node, Course(Stage.SKIPPED, why="cancelled before it was sent"))
            elif course.stage not in ENDED:
                # Kept before it is sent: a link that is gone, or just going, isn't the end of it.
                wanted = structs.replace(course, cancelled=True)
                self._store.put_course(command, node, wanted)
                self._under_way.put(command, node, wanted)
                if node in self.links:
                    self.links[node].put(Cancel(command))
        self._go_on()
        return None

    def running(self) -> list[Running]:
        """The commands under way, and how far they are."""
        return [
            Running(kept.id, kept.verb, kept.sent_by, kept.deadline, self._under_way.courses(kept.id))
            for kept in self._under_way.every()
        ]

    # --- links ---

    def seen(self, node: str) -> Mapping[str, int]:
        """The last event of each unfinished command of a node."""
        return {command: course.seen for command, course in self._store.unfinished(node).items()}

    def attach(self, link: Link) -> None:
        """A link is up: commands that were sent before are sent again (the node knows their ids), others follow.

        One that was cancelled meanwhile isn't: a node that never got it would start it before it reads on.
        """
        self.links[link.node] = link
        for kept, course in self._under_way.at(link.node):
            if course.stage in (*ENDED, Stage.QUEUED):
                continue
            if course.cancelled:
                link.put(Cancel(kept.id))
            elif self._clock() < kept.deadline:
                link.put(_send(kept))
        self._under_way.look_again(link.node)
        self._go_on()

    def greeted(self, link: Link, hello: NodeHello) -> None:
        """A node says anew how it is: what waited for the end of a hold may go."""
        link.hello = hello
        self._under_way.look_again(link.node)
        self._go_on()

    def detach(self, link: Link) -> None:
        """A link is gone, unless a newer one has taken its place."""
        if self.links.get(link.node) is link:
            del self.links[link.node]

    def hear(self, link: Link, event: Event) -> None:
        """A node says something of a command. It is taken in with what else has come meanwhile."""
        self._heard.append((link, event))
        self.wake()

    def take_in(self) -> None:
        """Keep the events that were heard, acknowledge them, and send the next rounds.

        All of them together: each transaction, and each line of the audit, waits for the disk.
        """
        heard_now, self._heard = self._heard, []
        courses: dict[tuple[str, str], Course] = {}
        changes: list[tuple[str, str, Course]] = []
        acks: dict[tuple[Link, str], int] = {}
        ends: list[tuple[str, str, str]] = []
        with self._store.transaction() if heard_now else nullcontext():
            for link, event in heard_now:
                place = (event.id, link.node)
                course = courses.get(place) or self._under_way.course(*place) or self._store.course(*place)
                if event.seq == 0 or course is None:
                    word = event.data.get("check")
                    log.warning("node %s refuses what it was sent as %.64r: %.200r", link.node, event.id, word)
                    continue
                acks[link, event.id] = max(event.seq, acks.get((link, event.id), 0))
                if (after := heard(course, event)) is None:
                    continue
                courses[place] = after
                changes.append((*place, after))
                self._quota.keep(link.node, event, needed=advances(course, after))
                self._store.put_course(*place, after)
                if after.stage in ENDED:
                    self._quota.ended(*place)
                    ends.append((f"node {link.node}", _end(after), event.id))
            if ends:
                self._audit.write_all(ends)
        for change in changes:
            self._under_way.put(*change)
        for (link, command), seq in acks.items():
            link.put(Ack(command, seq))
        self._go_on()

    def tick(self) -> None:
        """Let time pass: deadlines end commands, and nodes that became free get theirs."""
        now = self._clock()
        for kept in self._under_way.past(now):
            for node, course in list(self._under_way.courses(kept.id).items()):
                after = lapsed(course, now, kept.deadline)
                if after is not None:
                    self._keep(kept, node, after)
        if now >= self._tidied + TIDY:
            self._tidied = now
            self._quota.forget_before(now - KEPT_SECONDS)
        self._go_on()

    # --- rounds ---

    def _go_on(self) -> None:
        """Look at the commands for which something has changed, until nothing does any more."""
        while (kept := self._under_way.next()) is not None:
            if self._under_way.waits(kept.id):
                self._step(kept)
            if self._under_way.over(kept.id):
                self._store.end_command(kept.id)
                self._under_way.remove(kept.id)

    def _step(self, kept: Kept) -> None:
        if self._clock() >= kept.deadline:
            return
        after = self._store.last_turn(kept.nodes) if kept.strategy.single else None
        made = next_round(kept.strategy, self._candidates(kept), self._under_way.courses(kept.id), after)
        if isinstance(made, Over):
            for node, why in made.skipped.items():
                self._keep(kept, node, Course(Stage.SKIPPED, why=why))
            return
        # Kept before they are sent: whatever becomes of the hub, it is these nodes' from now on.
        sent = Course(Stage.SENT)
        with self._store.transaction():
            for node in made.nodes:
                self._store.put_course(kept.id, node, sent)
                self._quota.make_room(node)
            if kept.strategy.single and made.nodes:
                self._store.put_turn(kept.nodes, made.nodes[0])
        for node in made.nodes:
            self._under_way.put(kept.id, node, sent)
            self.links[node].put(_send(kept))

    def _candidates(self, kept: Kept) -> Sequence[Candidate]:
        if not VERBS[kept.verb].changes or kept.verb == "config.confirm":
            return [Candidate(node, node in self.links) for node in kept.nodes]
        waits = kept.verb not in ("hold", "release")
        return [
            Candidate(
                node,
                node in self.links,
                waits and node in self.links and self.links[node].hello.held,
                self._under_way.changing(node, kept.id),
            )
            for node in kept.nodes
        ]

    def _keep(self, kept: Kept, node: str, course: Course) -> None:
        if course.stage in ENDED or course.outcome is Outcome.UNKNOWN:
            self._audit.write("hub", f"{node}: {_end(course)}", kept.id)
        self._store.put_course(kept.id, node, course)
        self._under_way.put(kept.id, node, course)


def _send(kept: Kept) -> Send:
    return Send(kept.body, kept.sent_by, kept.key, kept.sig)


def _end(course: Course) -> str:
    return f"{course.outcome or course.stage}: {course.why}"[:500]
