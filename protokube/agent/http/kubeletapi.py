"""Kubelet's own API, as far as it is here: logs, pods, what the node uses. The rest is answered with 501.

Without a client CA nobody can show who asks: then it listens on loopback alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

from aiohttp import web

from protokube.agent.clock import wall_time
from protokube.agent.core.model import Pod
from protokube.agent.core.stats import Usage, resource_metrics, summary, usage_of
from protokube.agent.http.access import Access, caller_of, part_of, peer_certificate
from protokube.agent.http.webconfig import Serving
from protokube.agent.ports import LogOptions, Logs, NotFoundError, Provider
from protokube.errors import ProviderError

log = logging.getLogger("protokube")

AGAIN = 30.0
"""Seconds between two tries to listen, and between two looks for another certificate."""
_ABSENT = ("exec", "attach", "portForward", "run", "runningpods", "configz", "cri", "debug", "checkpoint")
_NO_OPTIONS = ("previous", "sinceSeconds", "sinceTime", "timestamps")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class KubeletApi:
    """The API of one node. `pods` are those that run, with their status."""

    def __init__(
        self, provider: Provider, node: str, pods: Callable[[], Sequence[Pod]], access: Access, serving: Serving
    ) -> None:
        self._provider = provider
        self._node = node
        self._pods = pods
        self._access = access
        self._serving = serving

    @property
    def guarded(self) -> bool:
        """Whether who asks must show a certificate."""
        return self._serving.client_ca_file is not None

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/healthz", self._health),
                web.get("/pods", self._list),
                web.get("/containerLogs/{namespace}/{pod}/{container}", self._logs),
                web.get("/metrics/resource", self._metrics),
                web.get("/stats/summary", self._summary),
                *(web.route("*", f"/{name}{rest}", _absent) for name in _ABSENT for rest in ("", "/{path:.*}")),
            ]
        )
        return app

    async def run(self) -> None:
        """Listen until cancelled. What keeps it from listening is said, and tried again: pods don't need it."""
        said = ""
        while True:
            try:
                await self._serve()
            except (OSError, ProviderError) as error:
                if str(error) != said:
                    log.error("kubelet's API, port %d: %s; it is tried again", self._serving.port, error)
                said = str(error)
            await asyncio.sleep(AGAIN)

    async def _serve(self) -> None:
        # Who follows a log and goes away ends it.
        runner = web.AppRunner(self.application(), shutdown_timeout=1.0, handler_cancellation=True)
        context = tls_context(self._serving)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._serving.host or None, self._serving.port, ssl_context=context).start()
            where = "all addresses" if self.guarded else "loopback alone: no client CA was given"
            log.info("kubelet's API: port %d of %s", self._serving.port, where)
            stamp = _stamp(self._serving)
            while True:
                await asyncio.sleep(AGAIN)
                if context is not None and (now := _stamp(self._serving)) != stamp:
                    load_chain(context, self._serving)
                    stamp = now
        finally:
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.guarded and (refusal := await self._refusal(request)) is not None:
            return refusal
        try:
            return await handler(request)
        except NotFoundError as error:
            return web.Response(status=404, text=str(error))
        except ProviderError as error:
            return web.Response(status=500, text=str(error))

    async def _refusal(self, request: web.Request) -> web.Response | None:
        transport = request.transport
        caller = caller_of(peer_certificate(transport and transport.get_extra_info("ssl_object")))
        if caller is None:
            return web.Response(status=401, text="Unauthorized")
        verb = {"GET": "get", "HEAD": "get", "POST": "create"}.get(request.method, request.method.lower())
        part = part_of(request.path)
        try:
            if await self._access.allows(caller, verb, part):
                return None
        except ProviderError as error:
            return web.Response(status=500, text=f"it can't be asked who may do that: {error}")
        said = f"Forbidden (user={caller.user}, verb={verb}, resource=nodes, subresource={part})"
        return web.Response(status=403, text=said)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _list(self, _: web.Request) -> web.Response:
        items = sorted(self._pods(), key=lambda pod: str(pod["metadata"].get("name")))
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=resource_metrics(await asyncio.to_thread(_usage)))

    async def _summary(self, _: web.Request) -> web.Response:
        usage = await asyncio.to_thread(_usage)
        return web.json_response(summary(self._node, usage, self._pods(), wall_time()))

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        if not isinstance(self._provider, Logs):
            return web.Response(status=501, text="the provider has no logs")
        asked = [name for name in _NO_OPTIONS if request.query.get(name) not in (None, "", "false")]
        if asked:
            return web.Response(status=501, text=f"{', '.join(asked)}: not supported by this node; see its journal")
        try:
            tail = _number(request.query.get("tailLines"))
            limit = _number(request.query.get("limitBytes"))
        except ValueError as error:
            return web.Response(status=400, text=f"a number was expected: {error}")
        options = LogOptions(tail, request.query.get("follow") == "true")
        namespace, pod, container = (request.match_info[name] for name in ("namespace", "pod", "container"))
        printed = self._provider.container_logs(namespace, pod, container, options)
        async with aclosing(_closing(printed)) as parts:
            first = await anext(parts, b"")  # what is missing is said before the answer begins
            response = web.StreamResponse(headers={"Content-Type": "text/plain"})
            await response.prepare(request)
            left = limit
            part: bytes | None = first
            while part is not None and left != 0:
                part = part if left is None else part[:left]
                left = None if left is None else left - len(part)
                await response.write(part)
                part = await anext(parts, None)
        await response.write_eof()
        return response


def tls_context(serving: Serving) -> ssl.SSLContext | None:
    """The server's side of TLS; None without a certificate. Raises ProviderError."""
    if serving.cert_file is None:
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=serving.client_ca_file)
    except OSError as error:
        raise ProviderError(f"{serving.client_ca_file}: {error}") from error
    load_chain(context, serving)
    if serving.client_ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_chain(context: ssl.SSLContext, serving: Serving) -> None:
    """Have new connections see the certificate that is there now. Raises ProviderError."""
    assert serving.cert_file is not None, "there is TLS"
    try:
        context.load_cert_chain(serving.cert_file, serving.key_file)
    except OSError as error:
        raise ProviderError(f"{serving.cert_file}: {error}") from error


def _stamp(serving: Serving) -> tuple[int, ...]:
    files = [one for one in (serving.cert_file, serving.key_file) if one is not None]
    return tuple(Path(one).stat().st_mtime_ns for one in files)


async def _absent(request: web.Request) -> web.Response:
    return web.Response(status=501, text=f"{request.path}: not supported by this node")


async def _closing(parts: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The same parts, of something that can be closed."""
    async for part in parts:
        yield part


def _number(text: str | None) -> int | None:
    if text is None or text == "":
        return None
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _usage() -> Usage:
    ticks = os.sysconf("SC_CLK_TCK")
    return usage_of(Path("/proc/stat").read_text(), Path("/proc/meminfo").read_text(), ticks)
