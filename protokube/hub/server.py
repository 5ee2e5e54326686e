"""The hub on the wire: one port, TLS 1.3, HTTP/1.1 and WebSockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from protokube.hub.answers import answer, read, refusal, shown
from protokube.hub.auditfile import AuditFile
from protokube.hub.core.access import ROUTES, Denied, may, of_a_page
from protokube.hub.core.membership import Shows
from protokube.hub.core.messages import LARGEST
from protokube.hub.core.names import Identity
from protokube.hub.desk import Desk
from protokube.hub.gate import Enrol, Gate, Granted, Renew
from protokube.hub.links import Links
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
IDLE = 30.0
"""Seconds that a connection may be open between two requests, or before the first one."""


class Server:
    """The application. `clock`: seconds since the epoch; `boot`: seconds that nobody sets."""

    def __init__(self, gate: Gate, desk: Desk, store: Store, audit: AuditFile, clock: Callable[[], float]) -> None:
        self._gate = gate
        self._desk = desk
        self._store = store
        self._audit = audit
        self._clock = clock
        self._links = Links(gate, desk, audit, clock)
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
        if isinstance(made, Denied):
            self._links.judge(peer.identity.name)  # a copied key ends the link as well; no other node's is concerned
        return _granted(made)

    # --- links ---

    async def _link(self, request: web.Request) -> web.WebSocketResponse:
        peer = shown(request)
        assert peer is not None and peer.identity is not None
        return await self._links.serve(request, peer.identity.name, peer.serial)

    async def _sweeping(self, _app: web.Application) -> AsyncIterator[None]:
        heard = asyncio.Event()
        self._desk.wake = heard.set

        async def sweep() -> None:
            while True:
                await asyncio.sleep(SWEEP)
                self._links.sweep(everything=self._store.changed())
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
        self._links.close()

    async def _kept_up(self, work: Coroutine[None, None, None]) -> None:
        """Do what the hub can't go on without: what breaks it, ends the program."""
        try:
            await work
        except Exception as error:
            self._failures.put_nowait(error)
            raise

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
            remedy = f"on the hub: protokube-hub operator {identity.name} --out DIR"
            return Denied(403, f"operator {identity.name}: the certificate has ended; {remedy}")
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
