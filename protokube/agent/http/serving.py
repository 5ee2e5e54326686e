"""`virtual-kubelet serve-web`: a provider of ours behind HTTP, until the program ends."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from protokube.agent.http.webconfig import Serving
from protokube.agent.http.webserver import WebServer
from protokube.agent.machine import Machine
from protokube.agent.ports import NodeFacts, Provider, Works
from protokube.core.model import Fault
from protokube.errors import ConfigError

log = logging.getLogger(__name__)


async def serve(provider: Provider, serving: Serving, ready: Callable[[str], None]) -> None:
    """Serve until cancelled. Raises ConfigError for files and an address that can't be used."""
    node = provider if isinstance(provider, NodeFacts) else Machine()
    runner = web.AppRunner(WebServer(provider, node, token_of(serving)).application())
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, serving.host, serving.port, ssl_context=tls_of(serving)).start()
        except OSError as error:
            raise ConfigError([Fault("--listen", f"{serving.host}:{serving.port}: {error}")]) from error
        host, port = runner.addresses[0][:2]
        where = f"{host}:{port}"
        log.info("listening on %s", where)
        ready(f"listening on {where}")
        await (provider.work() if isinstance(provider, Works) else asyncio.Event().wait())
    finally:
        await runner.cleanup()


def token_of(serving: Serving) -> str | None:
    """The token that who asks must show, None when nobody must. Raises ConfigError."""
    if serving.token_file is None:
        return None
    token = Path(serving.token_file).read_text(encoding="utf-8").strip()
    if not token:
        raise ConfigError([Fault("--token-file", f"{serving.token_file}: a token was expected, the file is empty")])
    return token


def tls_of(serving: Serving) -> ssl.SSLContext | None:
    """The server's certificate, and whose certificates it asks for; None for plain HTTP. Raises ConfigError."""
    if serving.cert_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=serving.client_ca_file)
    try:
        context.load_cert_chain(serving.cert_file, serving.key_file)
    except ssl.SSLError as error:
        raise ConfigError([Fault("--tls-cert-file", f"{serving.cert_file}: {error}")]) from error
    if serving.client_ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
