"""A hub and nodes on loopback: real sockets, real TLS, and programs that are scripts of the test's."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from protokube.agent.clock import boot_time, wall_time
from protokube.core.model import Fault
from protokube.hub.auditfile import AuditFile
from protokube.hub.core.checks import Me
from protokube.hub.core.course import Course
from protokube.hub.core.messages import Event
from protokube.hub.core.names import Identity
from protokube.hub.core.policy import Policy
from protokube.hub.core.rounds import Strategy
from protokube.hub.core.tokens import KeptToken, Token, digest, make_token, spelled
from protokube.hub.desk import Desk, Submit
from protokube.hub.gate import Gate
from protokube.hub.handlers import Handler
from protokube.hub.hubclient import enrol
from protokube.hub.hubword import Notes
from protokube.hub.journal import Journal
from protokube.hub.keyring import Keyring, Own
from protokube.hub.nodelink import NodeLink
from protokube.hub.pki import Pair, make_authority, make_client, make_server, pin, shown_pem
from protokube.hub.runner import Clocks, Runner
from protokube.hub.server import Server, server_context, serving
from protokube.hub.session import Chances
from protokube.hub.store import Store

LIMIT = 120.0
HOST = "127.0.0.1"
ALL, READ_ONLY = Strategy(), Policy()


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.02)


class Lab:
    """One hub's files, and its clock, which may be moved."""

    def __init__(self, folder: Path, life: float = 86400.0, authority: Pair | None = None) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.life = life
        self.ahead = 0.0
        self.authority = authority or make_authority("hub", time.time())
        pair = make_server(self.authority, "hub", [HOST], time.time(), 86400.0)
        for name, text in (("ca", self.authority.certificate), ("cert", pair.certificate), ("key", pair.key)):
            (folder / f"{name}.pem").write_text(text)
        self.port = 0

    @property
    def pin(self) -> str:
        """The pin of its authority."""
        return spelled(pin(self.authority.certificate))

    def command(
        self,
        nodes: Sequence[str],
        verb: str,
        args: Mapping[str, Any] | None = None,
        late: float = 0.0,
        seconds: float = 300.0,
    ) -> str:
        """A command's text, for this hub's nodes, issued `late` seconds ago."""
        return command(nodes, verb, args or {}, self.clock() - late, seconds, self.pin)

    def clock(self) -> float:
        """The hub's clock."""
        return wall_time() + self.ahead

    @asynccontextmanager
    async def hub(self, host: str = HOST) -> AsyncIterator[Hub]:
        """The hub, running; always on the same port."""
        store = Store(self.folder / "hub.db")
        audit = AuditFile(self.folder / "audit.jsonl", self.clock)
        gate = Gate("hub", self.authority, store, audit, self.clock, self.life)
        desk = Desk(store, audit, self.clock)
        server = Server(gate, desk, store, audit, self.clock)
        context = server_context(*(self.folder / f"{name}.pem" for name in ("cert", "key", "ca")))
        try:
            async with serving(server, host, self.port, context) as self.port:
                yield Hub(self, store, audit, gate, desk, server)
        finally:
            store.close()


class Hub:
    """A running hub."""

    def __init__(self, lab: Lab, store: Store, audit: AuditFile, gate: Gate, desk: Desk, server: Server) -> None:
        self.lab, self.store, self.audit, self.gate, self.desk = lab, store, audit, gate, desk
        self.server = server

    def token(self, node: str, *, life: float = 3600.0, replace: bool = False) -> Token:
        """A new token."""
        token = make_token(random.randbytes(5), random.randbytes(16), pin(self.lab.authority.certificate))
        expires = self.lab.clock() + life
        self.store.put_token(KeptToken(token.id, digest(token.secret), node, (), expires, replace))
        return token

    def submit(
        self, nodes: Sequence[str], verb: str, strategy: Strategy = ALL, seconds: float = 300.0, **args: Any
    ) -> str:
        """Send a command; its id."""
        body = self.lab.command(nodes, verb, args, seconds=seconds)
        made = self.desk.submit(Submit(body, strategy), "operator anna")
        assert not isinstance(made, Fault), made
        return made

    def course(self, name: str, node: str) -> Course:
        """How far a command is."""
        course = self.store.course(name, node)
        assert course is not None
        return course

    async def ended(self, name: str, node: str) -> Course:
        """A command's end at a node."""
        await until(lambda: self.course(name, node).outcome is not None)
        return self.course(name, node)

    def events(self, name: str, node: str) -> Sequence[Event]:
        """What a node said of a command."""
        return self.store.events(name, node)

    def output(self, name: str, node: str) -> str:
        """A command's output."""
        return "".join(event.data.get("text", "") for event in self.events(name, node) if event.kind == "log")


def command(
    nodes: Sequence[str],
    verb: str,
    args: Mapping[str, Any],
    now: float,
    seconds: float = 300.0,
    hub: str | None = None,
) -> str:
    """A command's text. Without a hub a signature over it doesn't count."""
    made = {"id": str(uuid.uuid4()), "nodes": list(nodes), "verb": verb, "args": dict(args)}
    whose = {} if hub is None else {"hub": hub}
    return json.dumps(made | {"issued": now, "deadline": now + seconds} | whose)


def operator(hub: Hub, folder: Path) -> Path:
    """Let the operator anna in; the directory with her key and certificate."""
    folder.mkdir()
    identity = Identity("hub", "operator", "anna")
    pair = make_client(hub.lab.authority, identity, hub.lab.clock(), 86400.0)
    for name, text in (("key", pair.key), ("cert", pair.certificate), ("bundle", hub.lab.authority.certificate)):
        (folder / f"{name}.pem").write_text(text)
    hub.store.put_operator("anna", shown_pem(pair.certificate).serial)
    return folder


class Node:
    """A node's files; `link` runs its program's heart."""

    def __init__(
        self,
        lab: Lab,
        name: str,
        handlers: Mapping[str, Handler],
        policy: Policy = READ_ONLY,
        folder: Path | None = None,
    ) -> None:
        self.lab, self.name, self.handlers, self.policy = lab, name, handlers, policy
        self.folder = folder or lab.folder / name
        self.keyring = Keyring(self.folder / "keys")
        self.said: list[str] = []
        self.held = False
        self.late = 0.0
        """Seconds by which its boot time is ahead."""

    async def enrol(self, token: Token) -> Own:
        """Enrol it."""
        return await enrol(self.keyring, HOST, self.lab.port, self.name, token)

    def link(self) -> NodeLink:
        """A fresh program's link: what it knows is on the disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        journal = Journal(self.folder / "journal.jsonl", wall_time)
        journal.load()
        audit = AuditFile(self.folder / "audit.jsonl", wall_time)
        own = self.keyring.load()
        hub = own.hub.authority if isinstance(own, Own) else ""

        async def facts() -> Mapping[str, str]:
            return {"protokube": "active"}

        def runner(link: NodeLink) -> Runner:
            clocks = Clocks(wall_time, link.hub_time)
            return Runner(Me(self.name, hub), self.policy, journal, audit, self.handlers, facts, clocks)

        def about() -> Mapping[str, object]:
            return {"boot_id": "boot", "policy": self.policy.mode, "facts": {"os": "Debian"}, "held": self.held}

        chances = Chances(lambda: boot_time() + self.late, lambda: random.uniform(0.01, 0.05))
        return NodeLink(self.keyring, Notes(self.folder / "heard.json"), runner, chances, about, self.said.append)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """The program's heart, until the end of the block; how it ended by itself is the task's."""
        task = asyncio.create_task(self.link().run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def linked(self, hub: Hub) -> bool:
        """Whether the hub sees its link."""
        return self.name in hub.desk.links


@asynccontextmanager
async def fleet(
    folder: Path, names: Sequence[str], handlers: Mapping[str, Handler], **given: Any
) -> AsyncIterator[Any]:
    """A hub and enrolled, linked nodes: `(hub, nodes)`."""
    async with AsyncExitStack() as stack:
        lab = Lab(folder)
        hub = await stack.enter_async_context(lab.hub())
        nodes = [Node(lab, name, handlers, **given) for name in names]
        for node in nodes:
            await node.enrol(hub.token(node.name))
            await stack.enter_async_context(node.running())
        await until(lambda: all(node.linked(hub) for node in nodes))
        yield hub, nodes
