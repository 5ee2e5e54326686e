"""Runs a node's commands: each is judged and recorded, one change at a time, reads side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from msgspec import Struct

from protokube.core.model import Fault
from protokube.errors import ProviderError
from protokube.hub.auditfile import AuditFile
from protokube.hub.core.checks import READS, Body, Me, Order, Refusal, Situation, Unsigned, digest, judge, read_body
from protokube.hub.core.course import Ends, Outcome, after_restart
from protokube.hub.core.messages import Event, EventKind, Send
from protokube.hub.core.pace import Pace, paced
from protokube.hub.core.policy import Policy, signing_key
from protokube.hub.core.verbs import VERBS, Arguments, read_arguments
from protokube.hub.handlers import End, Handler
from protokube.hub.journal import Journal, Taken
from protokube.hub.pki import verified
from protokube.hub.teller import Saying, Teller, refused


class Clocks(Struct, frozen=True):
    """`wall`: seconds since the epoch; `hub`: the hub's time, None before it was ever heard."""

    wall: Callable[[], float]
    hub: Callable[[], float | None]


class Runner:
    """Commands of one node. `handlers` by verb; `facts` tell how the node is, for a change whose end is unknown.

    `undo`, by verb: takes back a change that is under way, given its command's id.
    """

    def __init__(
        self,
        me: Me,
        policy: Policy,
        journal: Journal,
        audit: AuditFile,
        handlers: Mapping[str, Handler],
        facts: Callable[[], Awaitable[Mapping[str, str]]],
        clocks: Clocks,
        undo: Mapping[str, Callable[[str], None]] | None = None,
    ) -> None:
        self._me = me
        self._policy = policy
        self._journal = journal
        self._audit = audit
        self._handlers = handlers
        self._facts = facts
        self._clocks = clocks
        self._undo = undo or {}
        self._teller = Teller(journal, clocks.wall)
        self._tasks: dict[str, asyncio.Task[End]] = {}
        self._started: set[str] = set()
        self._failures: asyncio.Queue[BaseException] = asyncio.Queue()
        self._changing: str | None = None
        self._reads = asyncio.Semaphore(READS)
        self._settled = False
        self._pace = Pace()

    # --- the link ---

    def running(self) -> tuple[str, ...]:
        """Commands that run or wait."""
        return tuple(self._tasks)

    def done(self, seen: Iterable[str]) -> tuple[str, ...]:
        """Of these commands, those that have ended here."""
        found = ((name, self._journal.records.get(name)) for name in seen)
        return tuple(name for name, record in found if record is not None and record.ended())

    def verbs(self) -> tuple[str, ...]:
        """What this node can do."""
        return tuple(sorted(self._handlers))

    async def linked(self, seen: Mapping[str, int], send: Callable[[Event], None]) -> None:
        """A link is up: what it hasn't seen is sent. After a start, commands that were cut off are settled first."""
        if not self._settled:
            self._settled = True
            await self._settle(seen)
        self._teller.linked(seen, send, self._tasks)

    def unlinked(self) -> None:
        """The link is gone: events wait for the next one."""
        self._teller.unlinked()

    def acknowledged(self, command: str, seq: int) -> None:
        """The hub has a command's events up to this one."""
        self._teller.acknowledged(command, seq, runs=command in self._tasks)

    async def take(self, sent: Send) -> None:
        """Take a command, or say why not. One that is known is answered from its record."""
        body = read_body(sent.body)
        if isinstance(body, Refusal):
            self._teller.outside("", body)
            return
        known = self._journal.records.get(body.id)
        if known is not None and known.taken.digest == digest(sent.body):
            self._teller.repeat(known)
            return
        made = judge(body, sent.body, self._situation(sent, None if known is None else known.taken.digest))
        if isinstance(made, Refusal) and known is not None:
            self._teller.outside(body.id, made)  # that id's record is another command's
            return
        kept = len(sent.body) if isinstance(made, Order) else 0
        pace = paced(
            self._pace, asyncio.get_running_loop().time(), kept, self._teller.unheard(), full=not self._room()
        )
        if isinstance(pace, str):
            self._teller.outside(body.id, Refusal("pace", (Fault("command", pace),), body.id))
            return
        self._pace = pace
        self._keep(sent, body, made)
        if isinstance(made, Order):
            self._start(made)

    def cancel(self, command: str) -> None:
        """Cancel a command that hasn't started, or a read."""
        task, record = self._tasks.get(command), self._journal.records.get(command)
        if task is None or record is None:
            return
        body = read_body(record.taken.body)
        if isinstance(body, Body) and VERBS[body.verb].changes and command in self._started:
            undo = self._undo.get(body.verb)
            if undo is None:
                self._teller.say(command, "progress", {"text": "it changes the node already, and can't be cancelled"})
            else:
                undo(command)
            return
        task.cancel()

    async def close(self) -> None:
        """End what runs; its records stay open, and the next start settles them."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- taking ---

    def _situation(self, sent: Send, known: str | None) -> Situation:
        now = self._clocks.hub()
        assert now is not None  # no command comes before a hello
        reads = len(self._tasks) - (self._changing is not None)
        return Situation(
            self._me,
            now,
            frozenset(self._handlers),
            self._policy.mode,
            self._signer(sent),
            known,
            self._changing,
            min(reads, READS),
            max(0, reads - READS),
        )

    def _room(self) -> bool:
        """Whether a record has room, once what may be forgotten is."""
        now = self._clocks.hub()
        assert now is not None
        if self._journal.full():
            self._teller.forget(self._journal.make_room(now))
        return not self._journal.full()

    def _signer(self, sent: Send) -> str | Unsigned:
        found = signing_key(self._policy, sent.key, sent.sig)
        if isinstance(found, Unsigned):
            return found
        name, key, signature = found
        if not verified(key, signature, sent.body.encode()):
            return Unsigned(
                f"the signature isn't {name}'s over this command: it was changed, or signed with another key"
            )
        return name

    def _keep(self, sent: Send, body: Body, made: Order | Refusal) -> None:
        signer = made.signer if isinstance(made, Order) else ""
        word: EventKind = "refused" if isinstance(made, Refusal) else "accepted"
        text, now = "" if isinstance(made, Refusal) else sent.body, self._clocks.wall()
        until = body.deadline if isinstance(made, Order) else 0.0
        taken = Taken(body.id, digest(sent.body), body.verb[:64], text, sent.sent_by[:200], signer, now, until)
        why = f" ({made.check})" if isinstance(made, Refusal) else ""
        self._audit.write(f"hub for {sent.sent_by[:64]}", f"{body.verb[:64]} {word}{why}", body.id)
        data = refused(made) if isinstance(made, Refusal) else {"signer": signer} if signer else {}
        self._teller.first(taken, word, data)

    # --- running ---

    def _start(self, order: Order) -> None:
        name = order.body.id
        if order.verb.changes and self._changing is None:
            self._changing = name
        self._tasks[name] = asyncio.create_task(self._run(order))
        # Not in the task: one that is cancelled before its first step never gets there.
        self._tasks[name].add_done_callback(lambda task: self._ended(name, task))

    async def _run(self, order: Order) -> End:
        if order.verb.changes:
            return await self._work(order)
        async with self._reads:
            return await self._work(order)

    def _ended(self, name: str, task: asyncio.Task[End]) -> None:
        if name not in self._tasks:
            return  # the program ends, and the record stays open
        if self._changing == name:
            self._changing = None
        self._started.discard(name)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._failures.put_nowait(problem)
            return
        try:
            self._finish(
                name, End(Outcome.CANCELLED, "cancelled by an operator") if task.cancelled() else task.result()
            )
        except ProviderError as error:
            self._failures.put_nowait(error)

    async def work(self) -> None:
        """Wait for a failure of the runner's own, such as a record that can't be written, and raise it."""
        raise await self._failures.get()

    async def _work(self, order: Order) -> End:
        name, now = order.body.id, self._clocks.hub()
        assert now is not None
        left = order.body.deadline - now
        if left <= 0:
            return End(Outcome.FAILED, "its deadline passed while it waited")
        self._teller.say(name, "started", {})
        self._started.add(name)
        try:
            async with asyncio.timeout(left):
                return await self._handlers[order.verb.name](order, Saying(self._teller, name), left)
        except TimeoutError:
            if order.verb.changes:
                return End(Outcome.UNKNOWN, "its deadline passed while it ran", {"facts": await self._told()})
            return End(Outcome.FAILED, "its deadline passed while it ran")
        except ProviderError as error:
            return End(Outcome.FAILED, str(error))

    def _finish(self, name: str, end: End) -> None:
        self._tasks.pop(name, None)
        self._audit.write("nokubelet", f"{end.outcome}: {end.why}"[:300], name)
        data = {"outcome": end.outcome, "why": end.why[:4000], "result": dict(end.result)}
        self._teller.say(name, "done", data)

    async def _settle(self, seen: Mapping[str, int]) -> None:
        """After a start: a change that had begun ends as unknown, everything else that was accepted is run."""
        for name, record in self._journal.records.items():
            self._teller.restore(record, seen)
            if record.ended():
                continue
            body, now = read_body(record.taken.body), self._clocks.hub()
            assert isinstance(body, Body) and now is not None
            verb = VERBS.get(body.verb)
            changes = verb is None or verb.changes
            resume = after_restart(record.events, changes=changes, now=now, deadline=body.deadline)
            if isinstance(resume, Ends):
                self._finish(name, End(resume.outcome, resume.why, {"facts": await self._told()}))
                continue
            arguments = None if verb is None else read_arguments(verb, body.args)
            if verb is None or not isinstance(arguments, Arguments) or verb.name not in self._handlers:
                self._finish(name, End(Outcome.FAILED, f"this version of the node doesn't do {body.verb[:64]}"))
            elif verb.changes and self._changing is not None:
                self._finish(name, End(Outcome.FAILED, f"busy: command {self._changing} changes the node"))
            else:
                self._start(Order(body, verb, arguments, record.taken.signer))

    async def _told(self) -> Mapping[str, str]:
        try:
            return dict(await self._facts())
        except ProviderError as error:
            return {"unknown": str(error)}
