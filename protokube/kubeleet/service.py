"""The service API: takes services in, shows where their pods are, takes them out again."""

from __future__ import annotations

import asyncio
import hmac
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

from protokube.agent.http.serving import tls_of
from protokube.agent.http.webconfig import Serving
from protokube.core.model import Fault
from protokube.errors import ConfigError, OutcomeUnknownError, ProviderError
from protokube.kubeleet.connect import Connector, Word
from protokube.kubeleet.core.census import Census, Letter, read_letter, service_pods, states, unserved
from protokube.kubeleet.core.pod import Wanted, attempts_key, container_name, pods_of, read_pod, read_service
from protokube.kubeleet.core.settings import is_loopback_header
from protokube.kubeleet.keys import Keys
from protokube.kubeleet.reading import read_census, shown_workers

LARGEST = 64 * 1024
"""Bytes of a request."""
WAIT = 500
"""Milliseconds that replicas have to take a service over."""

log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """The application.

    `replicas`: how many must have a service before it counts as taken in. `trusting`: who is on this machine may ask.
    """

    def __init__(
        self, connector: Connector, keys: Keys, token: str | None = None, replicas: int = 0, *, trusting: bool = False
    ) -> None:
        self._connector = connector
        self._keys = keys
        self._token = token
        self._replicas = replicas
        self._trusting = trusting

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(middlewares=[self._guard], client_max_size=LARGEST)
        app.add_routes(
            [
                web.post("/service", self._create),
                web.get("/service", self._list),
                web.get("/service/{uuid}", self._show),
                web.delete("/service/{uuid}", self._remove),
                web.get("/workers", self._workers),
                web.get("/dead", self._dead),
                web.post(r"/dead/{n:\d+}/retry", self._retry),
            ]
        )
        return app

    async def _create(self, request: web.Request) -> web.Response:
        service = read_service(await request.read(), str(uuid.uuid4()))
        if isinstance(service, tuple):
            return _json({"errors": [str(fault) for fault in service]}, 400)
        encoded, pods = service.encode(), pods_of(service)
        async with self._connector.link(inspects=False) as link:
            try:
                words: list[Word] = [self._keys.prefix, service.uuid, encoded, "NEW", *pods]
                new, held, _ = await link.run("service", self._keys.of_service, words)
                if held != encoded:
                    return _json({"error": "uuid: another request has it", "held": _shown(held)}, 409)
                if self._replicas:
                    taken = await link.call("WAIT", self._replicas, WAIT)
                    if taken < self._replicas:
                        raise OutcomeUnknownError(f"{taken} of {self._replicas} replicas have it after {WAIT} ms")
            except OutcomeUnknownError as error:
                return _json({"outcome": "unknown", "uuid": service.uuid, "error": str(error)}, 503)
        answer = {"uuid": service.uuid, "pods": [container_name(_pod(raw), raw) for raw in pods]}
        return _json(answer, 201 if new else 200)

    async def _list(self, _request: web.Request) -> web.Response:
        census = await self._census()
        return _json([_shown(request) for _, request in sorted(census.services.items())])

    async def _show(self, request: web.Request) -> web.Response:
        census = await self._census()
        held = census.services.get(request.match_info["uuid"])
        service = read_pod(held) if held is not None else None
        if not isinstance(service, Wanted):
            raise web.HTTPNotFound(text="there is no such service")
        found = {container_name(_pod(raw), raw): state for raw, state in states(census, service).items()}
        return _json({**_shown(service.encode()), "pods": found})

    async def _remove(self, request: web.Request) -> web.Response:
        """Remove a service, or pods whose service is lost."""
        name, keys = request.match_info["uuid"], self._keys
        async with self._connector.link(inspects=False) as link:
            census = await read_census(link, keys)
            pods = {*service_pods(census.services.get(name, b"")), *unserved(census).get(name, [])}
            if name not in census.services and not pods:
                raise web.HTTPNotFound(text="there is no such service")
            letters = [raw for raw in census.dead if (one := read_letter(raw)) and one.pod.encode() in pods]
            names = [keys.services, keys.queue, keys.dead, keys.workers, keys.schedulers]
            await link.run("remove", names, [keys.prefix, name, *pods, *letters])
        return _json({"uuid": name}, 202)

    async def _workers(self, _request: web.Request) -> web.Response:
        return _json(shown_workers(await self._census()))

    async def _dead(self, _request: web.Request) -> web.Response:
        """The dead letters; the oldest is number 0, so that new ones change no number."""
        letters = [read_letter(raw) for raw in reversed((await self._census()).dead)]
        return _json(
            [{"n": n, **msgspec.to_builtins(one)} for n, one in enumerate(letters) if isinstance(one, Letter)]
        )

    async def _retry(self, request: web.Request) -> web.Response:
        keys = self._keys
        async with self._connector.link(inspects=False) as link:
            raw = await link.call("LINDEX", keys.dead, -1 - int(request.match_info["n"]))
            letter = read_letter(raw) if raw is not None else None
            if letter is None:
                raise web.HTTPNotFound(text="there is no such dead letter")
            pod = letter.pod.encode()
            if isinstance(fault := read_pod(pod), Fault):
                raise web.HTTPConflict(text=f"it can never run: {fault}")
            if not await link.run("retry", [keys.dead, keys.queue, keys.attempts], [raw, pod, attempts_key(pod)]):
                raise web.HTTPNotFound(text="somebody else was faster")
        return _json({"pod": letter.pod})

    async def _census(self) -> Census:
        async with self._connector.link(inspects=False) as link:
            return await read_census(link, self._keys)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._token is not None:
            shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(shown.encode(), self._token.encode()):
                raise web.HTTPUnauthorized(text="a bearer token was expected", headers={"WWW-Authenticate": "Bearer"})
        else:
            self._refuse_pages(request)
        try:
            return await handler(request)
        except ProviderError as error:
            log.warning("%s %s: %s", request.method, request.path, error)
            return _json({"error": str(error)}, 503)

    def _refuse_pages(self, request: web.Request) -> None:
        """Refuse what a web page may send from a browser of this machine: nobody there has shown who they are.

        A page of another origin can't send JSON without asking first, which nobody answers here; one whose name leads
        to this address sends its own name.
        """
        if self._trusting and not is_loopback_header(request.host):
            raise web.HTTPForbidden(text=f"Host: this machine's loopback address was expected, got {request.host}")
        if request.method == "POST" and request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(
                text=f"Content-Type: application/json was expected, got {request.content_type}"
            )


@asynccontextmanager
async def serving(service: Service, where: Serving) -> AsyncIterator[str]:
    """Serve in the block; yields the address. Raises ConfigError for an address that can't be used."""
    runner = web.AppRunner(service.application())
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, where.host, where.port, ssl_context=tls_of(where)).start()
        except OSError as error:
            raise ConfigError([Fault("--listen", f"{where.host}:{where.port}: {error}")]) from error
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


async def serve(service: Service, where: Serving, ready: Callable[[str], None]) -> None:
    """Serve until cancelled."""
    async with serving(service, where) as address:
        log.info("listening on %s", address)
        ready(f"listening on {address}")
        await asyncio.Event().wait()


def _pod(raw: bytes) -> Wanted:
    pod = read_pod(raw)
    assert isinstance(pod, Wanted), "we wrote it"
    return pod


def _shown(request: bytes) -> dict[str, Any]:
    service = read_pod(request)
    return {"error": str(service)} if isinstance(service, Fault) else msgspec.structs.asdict(service)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.json_response(value, status=status)
