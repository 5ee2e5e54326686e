"""The Web provider's server end: any provider of ours, behind the contract of 2017.

Its answers are those that the Go client can read: a 404 says `Not Found`, the three questions about the node are
always answered with 200 (any other answer crashed that kubelet), and a list near 10⁶ bytes leaves out what it can.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import msgspec
from aiohttp import web

from protokube.agent.core.model import Json, Pod
from protokube.agent.core.pods import key_of, title, uid_of
from protokube.agent.http import webcodec
from protokube.agent.ports import (
    Addressed,
    LogOptions,
    Logs,
    NodeFacts,
    NotFoundError,
    Notifies,
    Provider,
    RefusedError,
)
from protokube.errors import ProviderError

HELD = 30.0
"""Seconds that /podEvents waits for a change."""
KEPT = 1000
"""Changes that a client may have missed before it has to look at all pods."""

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebServer:
    """The application over one provider.

    `node` knows the node. `token`: who asks must show it, as a bearer or as a basic password. `held`: seconds that a
    question for changes waits.
    """

    def __init__(self, provider: Provider, node: NodeFacts, token: str | None = None, *, held: float = HELD) -> None:
        self._provider = provider
        self._node = node
        self._token = token
        self._held = held
        self._known: dict[str, object] = {
            "capacity": webcodec.NO_CAPACITY,
            "node_conditions": [{"type": "Ready", "status": "False", "reason": "NotYetKnown"}],
            "node_addresses": [],
        }
        self._events: deque[Pod | None] = deque(maxlen=KEPT)
        self._count = 0
        self._changed = asyncio.Condition()

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(middlewares=[self._guard], client_max_size=webcodec.LARGEST_REQUEST)
        app.add_routes(
            [
                web.post("/createPod", self._create),
                web.put("/updatePod", self._update),
                web.delete("/deletePod", self._delete),
                web.get("/getPod", self._get_pod),
                web.get("/getPodStatus", self._get_status),
                web.get("/getPods", self._get_pods),
                web.get("/getContainerLogs", self._logs),
                web.get("/capacity", self._of_node("capacity")),
                web.get("/nodeConditions", self._of_node("node_conditions")),
                web.get("/nodeAddresses", self._of_node("node_addresses")),
                web.get("/nodeDaemonEndpoints", self._endpoints),
                web.get("/operatingSystem", self._system),
                web.get("/", self._root),
            ]
        )
        if isinstance(self._provider, Notifies):
            app.router.add_get("/podEvents", self._pod_events)
            app.cleanup_ctx.append(self._listening)
        return app

    # --- pods ---

    async def _create(self, request: web.Request) -> web.Response:
        pod = await _read(request)
        there = await self._there(pod)
        if there is not None and uid_of(there) != uid_of(pod):
            raise web.HTTPConflict(text=f"pod {title(pod)} exists with UID {uid_of(there)}, and not {uid_of(pod)}")
        await self._provider.create_pod(pod)
        return web.Response(text="Pod created")

    async def _update(self, request: web.Request) -> web.Response:
        await self._provider.update_pod(await self._same(request))
        return web.Response(text="Pod updated")

    async def _delete(self, request: web.Request) -> web.Response:
        # A pod of another UID is another pod: the late end of the one before must not end it.
        await self._provider.delete_pod(await self._same(request))
        return web.Response(text="Pod deleted")

    async def _same(self, request: web.Request) -> Pod:
        """The pod of a request, if it is the one that is there."""
        pod = await _read(request)
        there = await self._there(pod)
        if there is None or uid_of(there) != uid_of(pod):
            raise web.HTTPNotFound(text=f"pod {title(pod)} with UID {uid_of(pod)} doesn't exist")
        return pod

    async def _there(self, pod: Pod) -> Pod | None:
        return await self._provider.get_pod(*key_of(pod))

    async def _get_pod(self, request: web.Request) -> web.Response:
        return _found(await self._provider.get_pod(*_name(request)))

    async def _get_status(self, request: web.Request) -> web.Response:
        return _found(await self._provider.get_pod_status(*_name(request)))

    async def _get_pods(self, _request: web.Request) -> web.Response:
        body, readable = webcodec.pods_body(await self._provider.get_pods())
        if not readable:
            log.warning("/getPods: %d bytes: a client of 2017 reads %d, and fails", len(body), webcodec.NARROW)
        return web.Response(body=body, content_type="application/json")

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        namespace, pod, container = _query(request, "namespace", "podName", "containerName")
        tail = _number(request, "tail")
        if not isinstance(self._provider, Logs):
            raise web.HTTPNotImplemented(text="this provider has no logs")
        pieces = self._provider.container_logs(namespace, pod, container, LogOptions(tail=tail or None))
        # The first piece comes before the head of the answer: a container that isn't there still becomes a 404.
        first = await anext(pieces, b"")
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        await answer.write(first)
        async for piece in pieces:
            await answer.write(piece)
        return answer

    # --- changes ---

    async def _listening(self, _app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._listen())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _listen(self) -> None:
        assert isinstance(self._provider, Notifies)
        async for pod in self._provider.changes():
            async with self._changed:
                self._events.append(pod)
                self._count += 1
                self._changed.notify_all()

    async def _pod_events(self, request: web.Request) -> web.Response:
        """The pods that changed since `after`. Nothing but a new number means: look at all of them."""
        after = _number(request, "after")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._held), self._changed:
                await self._changed.wait_for(lambda: self._count != after)
        missed = self._count - after
        known = 0 <= missed <= len(self._events)
        changes = list(self._events)[len(self._events) - missed :] if known else [None]
        return _json({"next": self._count, "pods": [] if None in changes else changes})

    # --- the node ---

    def _of_node(self, name: str) -> Handler:
        """Answers a question about the node, at the worst with what was known last."""

        async def answer(_request: web.Request) -> web.Response:
            try:
                if name == "capacity":
                    self._known[name] = await self._node.capacity()
                elif name == "node_conditions":
                    self._known[name] = await self._node.node_conditions()
                elif isinstance(self._node, Addressed):
                    self._known[name] = await self._node.node_addresses()
            except ProviderError as error:
                log.warning("%s: the last known answer is given: %s", name, error)
            return _json(self._known[name])

        return answer

    async def _endpoints(self, _request: web.Request) -> web.Response:
        return _json({"kubeletEndpoint": {"Port": 0}})

    async def _system(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._node.operating_system().capitalize())

    async def _root(self, _request: web.Request) -> web.Response:
        return web.Response(text="protokube's Web provider")

    # --- who may ask, and what becomes of errors ---

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._token is not None and not hmac.compare_digest(_shown_token(request).encode(), self._token.encode()):
            raise web.HTTPUnauthorized(text="a token is needed", headers={"WWW-Authenticate": "Bearer"})
        try:
            return await handler(request)
        except NotFoundError as error:
            raise web.HTTPNotFound(text=str(error)) from error
        except RefusedError as error:
            raise web.HTTPUnprocessableEntity(text="\n".join(error.reasons)) from error
        except ProviderError as error:
            raise web.HTTPInternalServerError(text=str(error)) from error


def _shown_token(request: web.Request) -> str:
    """The token that a request shows: as a bearer, or as the password of a client that knows Basic alone."""
    kind, _, value = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return value.strip() if kind.lower() == "bearer" else ""


async def _read(request: web.Request) -> Pod:
    """The pod of a request; without a namespace it is in `default`."""
    try:
        pod = msgspec.json.decode(await request.read())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise web.HTTPBadRequest(text=f"expected a Pod as JSON: {error}") from error
    metadata = pod.get("metadata") if isinstance(pod, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(metadata.get(key), str) for key in ("name", "uid")):
        raise web.HTTPBadRequest(text="expected a Pod with metadata.name and metadata.uid")
    if not isinstance(pod.get("spec"), dict):
        raise web.HTTPBadRequest(text=f"pod {metadata['name']}: expected an object spec")
    return {**pod, "metadata": {"namespace": "default", **metadata}}


def _name(request: web.Request) -> tuple[str, str]:
    namespace, name = _query(request, "namespace", "name")
    return namespace, name


def _query(request: web.Request, *names: str) -> list[str]:
    missing = [name for name in names if not request.query.get(name)]
    if missing:
        raise web.HTTPBadRequest(text=f"the query lacks {', '.join(missing)}")
    return [request.query[name] for name in names]


def _number(request: web.Request, name: str) -> int:
    """A whole number of the query; 0 where it is absent."""
    given = request.query.get(name) or "0"
    if not (given.isascii() and given.isdecimal()):
        raise web.HTTPBadRequest(text=f"{name}: expected a number, got {given!r}")
    return int(given)


def _found(value: Json | None) -> web.Response:
    if value is None:
        raise web.HTTPNotFound(text="Pod not found")
    return _json(value)


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
