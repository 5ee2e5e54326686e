"""The hub's page on loopback, for a browser that holds no certificate: nokubectl asks the hub with the operator's."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from protokube.errors import ProviderError
from protokube.hub.core.printable import printable
from protokube.hub.operatorclient import HubApi
from protokube.hub.page import HEADERS

HOST = "127.0.0.1"
"""Nobody else's machine reaches it; who else is on this one lacks the path's secret."""


@asynccontextmanager
async def relaying(api: HubApi, port: int) -> AsyncIterator[str]:
    """Relay the page, and nothing else; its URL. Raises OSError for a port that can't be used."""
    secret = secrets.token_urlsafe(16)

    async def page(request: web.Request) -> web.Response:
        if not hmac.compare_digest(request.match_info["secret"].encode(), secret.encode()):
            raise web.HTTPNotFound
        try:
            content = await api.ask("GET", "/v1/page", None)
        except ProviderError as error:
            return web.Response(text=printable(str(error)), status=502, headers=HEADERS)
        return web.Response(body=content, content_type="text/html", charset="utf-8", headers=HEADERS)

    app = web.Application()
    app.router.add_get("/{secret}/", page)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        yield f"http://{HOST}:{int(runner.addresses[0][1])}/{secret}/"
    finally:
        await runner.cleanup()
