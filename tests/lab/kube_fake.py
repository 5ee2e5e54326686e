"""A small API server in this process, as strict as the real one about what an agent asks.

It speaks HTTP without TLS. A bearer token says who asks: `admin`, or `node:NAME`. The suites of tests/agent/api hold
it and the real one to the same answers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.lab.kube_rights import check
from tests.lab.kube_store import CLUSTER_WIDE, PLURALS, ApiError, Change, Json, Store

_PATCHES = ("application/strategic-merge-patch+json", "application/merge-patch+json")
_TICK = 0.1
"""Seconds between two bookmarks."""
Where = tuple[str, str, str, str]


class KubeFake:
    """The server over a store. `token_of` answers requests for a service account's token."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or Store()
        self.requests: list[tuple[str, str]] = []
        self.half_a_line = False
        """Whether the next change on a watch is cut in its middle."""
        self.obstacle: Callable[[str, str], None] = lambda method, path: None
        """Called with each request's method and path; it may raise ApiError."""
        self.short_watches = False
        """Whether a watch ends in order as soon as it has begun."""
        self.allowed = True
        """What reviews of access answer."""

    def application(self) -> web.Application:
        app = web.Application(client_max_size=4 << 20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs))
        try:
            where = _where(request.path)
            body = await _body(request)
            self.obstacle(request.method, request.path)
            self._authorize(request, where, body)
            if request.query.get("watch") == "true":
                return await self._watch(request, where)
            answer, status = self._do(request, where, body)
        except ApiError as error:
            return web.json_response(error.body(), status=error.status)
        await self.store.tell()
        return web.json_response(answer, status=status)

    def _authorize(self, request: web.Request, where: Where, body: Json) -> None:
        who = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if who.startswith("node:"):
            check(self.store, who.removeprefix("node:"), request.method, where, body)
        elif who != "admin":
            raise ApiError(401, "Unauthorized", "Unauthorized")

    def _do(self, request: web.Request, where: Where, body: Json) -> tuple[Json, int]:
        plural, namespace, name, part = where
        key = (plural, namespace, name)
        if plural == "subjectaccessreviews":
            return {**body, "status": {"allowed": self.allowed}}, 201
        if part == "token":
            self.store.get(key)
            audiences = body["spec"].get("audiences") or ["api"]
            token = f"{namespace}:{name}:{','.join(audiences)}"
            return {**body, "status": {"token": token, "expirationTimestamp": "2099-01-01T00:00:00Z"}}, 201
        if request.method == "GET":
            return (self.store.get(key), 200) if name else (self._list(request, where), 200)
        if request.method == "POST":
            return self.store.create(plural, namespace, body), 201
        if request.method == "PUT":
            return self.store.replace(key, body), 200
        if request.method == "PATCH":
            if request.content_type not in _PATCHES:
                raise ApiError(415, "UnsupportedMediaType", f"{request.content_type} isn't a kind of patch")
            return self.store.patch(key, body, request.content_type, part), 200
        if request.method == "DELETE":
            return self.store.delete(key, body), 200
        raise ApiError(405, "MethodNotAllowed", request.method)

    def _list(self, request: web.Request, where: Where) -> Json:
        asked = request.query.get("resourceVersion", "")
        if asked and int(asked) > self.store.version:
            raise ApiError(504, "Timeout", f"Too large resource version: {asked}, current: {self.store.version}")
        items = self.store.list(where[0], where[1], _selector(request))
        return {"kind": "List", "metadata": {"resourceVersion": str(self.store.version)}, "items": items}

    async def _watch(self, request: web.Request, where: Where) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        seen, matches = int(request.query.get("resourceVersion") or self.store.version), _selector(request)
        marks = request.query.get("allowWatchBookmarks") == "true"
        if self.short_watches:
            return response
        end = asyncio.get_running_loop().time() + float(request.query.get("timeoutSeconds", "600"))
        while asyncio.get_running_loop().time() < end:
            if seen < self.store.floor:
                error = ApiError(410, "Expired", f"too old resource version: {seen} ({self.store.floor})")
                await self._write(response, {"type": "ERROR", "object": error.body()})
                return response
            changes = [one for one in self.store.history if one.version > seen]
            seen = max(seen, self.store.version)
            for change in changes:
                event = _event(change, matches) if change.plural == where[0] else None
                if event is not None and not await self._write(response, event):
                    return response
            try:
                async with asyncio.timeout(_TICK), self.store.changed:
                    while self.store.version <= seen:
                        await self.store.changed.wait()
            except TimeoutError:
                mark = {"kind": "Pod", "metadata": {"resourceVersion": str(seen), "creationTimestamp": None}}
                if marks and seen >= self.store.floor:
                    await self._write(response, {"type": "BOOKMARK", "object": mark})
        return response

    async def _write(self, response: web.StreamResponse, event: Json) -> bool:
        """Write one line; False when it was cut in its middle."""
        line = json.dumps(event).encode() + b"\n"
        cut = self.half_a_line and event["type"] != "BOOKMARK"
        if cut:
            self.half_a_line = False
            line = line[: len(line) // 2]
        await response.write(line)
        return not cut


@asynccontextmanager
async def serving(fake: KubeFake, port: int = 0) -> AsyncIterator[str]:
    """Serve on loopback; the URL."""
    runner = web.AppRunner(fake.application(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _event(change: Change, matches: Callable[[Json], bool]) -> Json | None:
    was = change.before is not None and matches(change.before)
    now = change.after is not None and matches(change.after)
    if now:
        return {"type": "MODIFIED" if was else "ADDED", "object": change.after}
    return {"type": "DELETED", "object": change.deleted or change.after} if was else None


def _selector(request: web.Request) -> Callable[[Json], bool]:
    selector = request.query.get("fieldSelector", "")
    if not selector:
        return lambda _: True
    field, _, value = selector.partition("=")
    if field != "spec.nodeName":
        raise ApiError(400, "BadRequest", f"field label not supported: {field}")
    return lambda one: (one.get("spec") or {}).get("nodeName") == value


def _where(path: str) -> Where:
    """Plural, namespace, name and part of a path. Raises ApiError."""
    pieces = [one for one in path.split("/") if one]
    if pieces[:2] == ["api", "v1"]:
        rest = pieces[2:]
    elif pieces[:1] == ["apis"] and pieces[1:3] in (["coordination.k8s.io", "v1"], ["authorization.k8s.io", "v1"]):
        rest = pieces[3:]
    else:
        raise ApiError(404, "NotFound", f"the server could not find {path}")
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    plural, name, part, *more = [*rest, "", "", ""]
    if any(more) or plural not in (*PLURALS, "subjectaccessreviews") or (plural in CLUSTER_WIDE and namespace):
        raise ApiError(404, "NotFound", f"the server could not find {path}")
    return plural, namespace, name, part


async def _body(request: web.Request) -> Json:
    content = await request.read()
    if not content:
        return {}
    try:
        found: Any = json.loads(content)
    except ValueError as error:
        raise ApiError(400, "BadRequest", str(error)) from error
    if not isinstance(found, dict):
        raise ApiError(400, "BadRequest", "an object was expected")
    return found
