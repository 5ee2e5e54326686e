"""The hub on the wire: one port, TLS 1.3, HTTP/1.1 and WebSockets."""

from __future__ import annotations

import asyncio
import logging
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import WSMsgType, web

from protokube.core.model import MIB, Fault
from protokube.hub.answers import answer, read, refusal, shown
from protokube.hub.auditfile import AuditFile
from protokube.hub.core.access import ROUTES, Denied, may, of_a_page
from protokube.hub.core.membership import Member, Shows, Shut
from protokube.hub.core.messages import (
    EXPELLED,
    LARGEST,
    PING,
    RENEW,
    SUPERSEDED,
    FromHub,
    HubHello,
    NodeHello,
    encode,
    from_node,
)
from protokube.hub.core.names import Identity
from protokube.hub.desk import Desk, Link
from protokube.hub.gate import Enrol, Gate, Granted, Renew
from protokube.hub.operatorroutes import OperatorRoutes
from protokube.hub.pki import Shown
from protokube.hub.store import Store
from protokube.hub.strangers import sweeping

NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME. In TLS 1.3 the client's handshake has ended before the server judges its
certificate: a refusal there reaches it as a closed connection, without a reason. So TLS proves chain and key, and the
gate judges the times."""
SWEEP = 0.5
"""Seconds between looks at who is out, and at what is over."""
GATHER = 0.02
"""Seconds in which what nodes say is gathered: it is brought to the disk together."""
GREETING = 30.0
"""Seconds that a node may take for its hello."""
IDLE = 30.0
"""Seconds that a connection may be open between two requests, or before the first one."""
WAITING = 10_000
"""Frames that may wait for a node to read them."""
RATE = MIB
"""Bytes a second that are taken from one node."""

log = logging.getLogger(__name__)
T = TypeVar("T")


class _Peer:
    """One link's connection."""

    def __init__(self, ws: web.WebSocketResponse, member: Member, serial: str, abort: Callable[[], None]) -> None:
        self.ws = ws
        self._abort = abort
        self.member = member
        self.serial = serial
        self.ends = member.current.ends
        self.frames: asyncio.Queue[FromHub | None] = asyncio.Queue()
        self.closing: tuple[int, str] | None = None

    def put(self, frame: FromHub) -> None:
        """Send a frame, after those before. A node that says much and reads nothing loses its link."""
        if self.closing is None and self.frames.qsize() >= WAITING:
            log.warning("node %s: it reads nothing; its link is cut", self.member.node)
            self.close(1008, "it reads nothing")
            self._abort()  # what waits before the close is never read either
        elif self.closing is None:
            self.frames.put_nowait(frame)

    def close(self, code: int, reason: str) -> None:
        """Close the link, with its reason."""
        if self.closing is None:
            self.closing = (code, reason)
            self.frames.put_nowait(None)


class Server:
    """The application. `clock`: seconds since the epoch; `boot`: seconds that nobody sets."""

    def __init__(self, gate: Gate, desk: Desk, store: Store, audit: AuditFile, clock: Callable[[], float]) -> None:
        self._gate = gate
        self._desk = desk
        self._store = store
        self._audit = audit
        self._clock = clock
        self._peers: dict[str, _Peer] = {}
        self._failures: asyncio.Queue[BaseException] = asyncio.Queue()

    async def failed(self) -> None:
        """Wait until something breaks that the hub can't go on without, and raise that."""
        raise await self._failures.get()

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(middlewares=[self._guard], client_max_size=LARGEST)
        asked = OperatorRoutes(self._gate.hub, self._desk, self._store, self._audit, self._clock)
        handlers = {
            ("GET", "/v1/ca"): self._ca,
            ("POST", "/v1/enrol"): self._enrol,
            ("POST", "/v1/renew"): self._renew,
            ("GET", "/v1/link"): self._link,
            ("GET", "/v1/nodes"): asked.nodes,
            ("GET", "/v1/audit"): asked.audit_lines,
            ("GET", "/v1/page"): asked.page,
            ("GET", "/v1/commands"): asked.commands,
            ("GET", "/v1/commands/{id}"): asked.command,
            ("GET", "/v1/commands/{id}/events"): asked.events,
            ("POST", "/v1/commands"): asked.submit,
            ("POST", "/v1/commands/{id}/cancel"): asked.cancel,
        }
        for method, route in ROUTES:
            app.router.add_route(method, route, handlers[method, route])
        app.cleanup_ctx.append(self._sweeping)
        return app

    # --- identity ---

    async def _ca(self, _request: web.Request) -> web.Response:
        return answer({"hub": self._gate.hub, "bundle": self._gate.bundle})

    async def _enrol(self, request: web.Request) -> web.Response:
        return _granted(self._gate.enrol(await read(request, Enrol)))

    async def _renew(self, request: web.Request) -> web.Response:
        peer = shown(request)
        assert peer is not None and peer.identity is not None
        shows = Shows(peer.serial, peer.validity.begins)
        made = self._gate.renew(peer.identity.name, shows, await read(request, Renew))
        if isinstance(made, Denied) and peer.identity.name in self._peers:
            self._judge(peer.identity.name)  # a copied key ends the link as well; no other node's is concerned
        return _granted(made)

    # --- links ---

    async def _link(self, request: web.Request) -> web.WebSocketResponse:
        peer = shown(request)
        assert peer is not None and peer.identity is not None
        node = peer.identity.name
        member = self._gate.admit(node, peer.serial)
        if isinstance(member, Shut):
            raise refusal(403, f"{member.rule}: {member.reason}")
        ws = web.WebSocketResponse(heartbeat=PING, max_msg_size=LARGEST, compress=False)
        await ws.prepare(request)
        assert request.transport is not None
        own = _Peer(ws, member, peer.serial, request.transport.abort)
        if (before := self._peers.get(node)) is not None:
            before.close(SUPERSEDED, "a newer link of this node is up")
        self._peers[node] = own
        writer = asyncio.create_task(self._write(own))
        try:
            hello = HubHello(
                str(uuid.uuid4()), self._clock(), self._audit.head(), dict(self._desk.seen(node)), self._gate.bundle
            )
            own.put(hello)
            await self._talk(own, node)
        finally:
            if self._peers.get(node) is own:
                del self._peers[node]
            own.close(1000, "")
            await asyncio.gather(writer, return_exceptions=True)
        return ws

    async def _talk(self, peer: _Peer, node: str) -> None:
        """Take a node's frames until its link ends."""
        link: Link | None = None
        allowance, since = float(RATE), asyncio.get_running_loop().time()
        greeting = asyncio.get_running_loop().call_later(GREETING, peer.close, 1008, "no hello came")
        try:
            async for message in peer.ws:
                if peer.closing is not None:
                    break  # who is out isn't listened to any more
                if message.type is not WSMsgType.TEXT:
                    peer.close(1003, "text frames were expected")
                    break
                now = asyncio.get_running_loop().time()
                allowance, since = min(float(RATE), allowance + (now - since) * RATE) - len(message.data), now
                if allowance < 0:
                    await asyncio.sleep(-allowance / RATE)  # its connection fills up, and it waits
                frame = from_node(message.data)
                if isinstance(frame, Fault):
                    log.warning("node %s: %s; its link is closed", node, frame)
                    peer.close(1008, str(frame)[:120])
                    break
                if isinstance(frame, NodeHello):
                    greeting.cancel()
                    if link is None:
                        link = Link(node, frame, peer.put)
                        log.info("node %s: link up", node)
                        self._desk.attach(link)
                    else:
                        self._desk.greeted(link, frame)
                elif link is None:
                    peer.close(1008, "a hello was expected first")
                    break
                else:
                    self._desk.hear(link, frame)
        except ConnectionError as error:
            log.debug("node %s: %s", node, error)  # aiohttp: a ping's answer, on a connection that has just gone
        finally:
            greeting.cancel()
            if link is not None:
                self._desk.detach(link)
                log.info("node %s: link down", node)

    async def _write(self, peer: _Peer) -> None:
        """Send what is put, until the link is to be closed."""
        while (frame := await peer.frames.get()) is not None:
            try:
                await peer.ws.send_str(encode(frame))
            except (ConnectionError, RuntimeError):  # aiohttp: a closing transport
                return
        assert peer.closing is not None
        code, reason = peer.closing
        await peer.ws.close(code=code, message=reason.encode()[:120])

    async def _sweeping(self, _app: web.Application) -> AsyncIterator[None]:
        heard = asyncio.Event()
        self._desk.wake = heard.set

        async def sweep() -> None:
            while True:
                await asyncio.sleep(SWEEP)
                self._sweep(everything=self._store.changed())
                self._desk.tick()

        async def take_in() -> None:
            while True:
                await heard.wait()
                await asyncio.sleep(GATHER)
                heard.clear()
                self._desk.take_in()

        tasks = [asyncio.create_task(self._kept_up(work())) for work in (sweep, take_in)]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for peer in list(self._peers.values()):
            peer.close(1001, "the hub is going away")

    async def _kept_up(self, work: Coroutine[None, None, None]) -> None:
        """Do what the hub can't go on without: what breaks it, ends the program."""
        try:
            await work
        except Exception as error:
            self._failures.put_nowait(error)
            raise

    def _sweep(self, *, everything: bool) -> None:
        now = self._clock()
        for node, peer in list(self._peers.items()):
            if now >= peer.ends:
                peer.close(RENEW, "renew: the certificate has ended")
            elif everything:
                self._judge(node)

    def _judge(self, node: str) -> None:
        """Close a node's link if it isn't let in any more."""
        peer = self._peers[node]
        judged = self._gate.admit(node, peer.serial)
        if isinstance(judged, Shut):
            code = SUPERSEDED if judged.rule == "superseded" else EXPELLED
            peer.close(code, f"{judged.rule}: {judged.reason}")

    # --- who may ask ---

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else request.path
        peer = shown(request)
        identity = peer.identity if peer is not None else None
        denied = may(self._gate.hub, request.method, route, identity) or self._not_in_force(identity, peer)
        denied = denied or of_a_page(request.method, request.headers)
        if denied is not None:
            raise refusal(denied.status, denied.reason)
        answered: web.StreamResponse = await handler(request)
        return answered

    def _not_in_force(self, identity: Identity | None, peer: Shown | None) -> Denied | None:
        """An operator's certificate must be the one in force, and within its time, which TLS doesn't check."""
        if identity is None or peer is None or identity.role != "operator":
            return None
        if self._store.operator(identity.name) != peer.serial:
            return Denied(403, f"operator {identity.name}: this certificate isn't in force any more")
        if not peer.validity.begins <= self._clock() < peer.validity.ends:
            return Denied(403, f"operator {identity.name}: the certificate has ended; protokube-hub operator add")
        return None


def server_context(certificate: Path, key: Path, authority: Path) -> ssl.SSLContext:
    """TLS 1.3 alone; who shows a certificate of the authority's has proven its key."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.verify_flags |= NO_CHECK_TIME
    context.load_cert_chain(certificate, key)
    return context


@asynccontextmanager
async def serving(server: Server, host: str, port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Serve; the port on which. Raises OSError for an address that can't be used."""
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=2.0, keepalive_timeout=IDLE)
    await runner.setup()

    def connections() -> list[asyncio.Transport]:
        held = runner.server.connections if runner.server is not None else []
        return [one.transport for one in held if one.transport is not None]

    strangers = asyncio.create_task(sweeping(connections))
    try:
        await web.TCPSite(runner, host, port, ssl_context=context).start()
        yield int(runner.addresses[0][1])
    finally:
        strangers.cancel()
        await asyncio.gather(strangers, return_exceptions=True)
        await runner.cleanup()


def _granted(made: Granted | Denied) -> web.Response:
    if isinstance(made, Denied):
        raise refusal(made.status, made.reason)
    return answer(made)
