"""Tokens that a program prints, as client-go's exec plugins do. They are kept until they expire."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import DEVNULL
from datetime import UTC, datetime, timedelta

from protokube import asyncprocess
from protokube.agent.clock import wall_time
from protokube.agent.http.kubeconfig import Plugin
from protokube.errors import ProviderError

LIMIT = 60.0
"""Seconds that the program may take."""
_EARLY = timedelta(seconds=30)
"""A token is asked for anew before it expires."""
_UNLIMITED = datetime.max.replace(tzinfo=UTC)

_kept: dict[Plugin, tuple[str, datetime]] = {}


async def plugin_token(plugin: Plugin) -> str:
    """The token of a program. Raises ProviderError; certificates of a program aren't supported, and said so."""
    now = datetime.fromtimestamp(wall_time(), UTC)
    known = _kept.get(plugin)
    if known is not None and now < known[1] - _EARLY:
        return known[0]
    asked = {"kind": "ExecCredential", "apiVersion": plugin.api_version, "spec": {"interactive": False}}
    environment = {**os.environ, **dict(plugin.env), "KUBERNETES_EXEC_INFO": json.dumps(asked)}
    name = plugin.command[0]
    try:
        async with asyncprocess.started(plugin.command, environment, DEVNULL) as process, asyncio.timeout(LIMIT):
            said, _ = await process.communicate()
    except TimeoutError as error:
        raise ProviderError(f"{name}: no credentials within {LIMIT:g} s") from error
    if process.returncode:
        raise ProviderError(f"{name}: exit code {process.returncode}; credentials were expected")
    token, until = _read(name, said)
    _kept[plugin] = (token, until)
    return token


def _read(name: str, said: bytes) -> tuple[str, datetime]:
    try:
        status = json.loads(said)["status"]
        token = status["token"]
        expires = status.get("expirationTimestamp")
        until = _UNLIMITED if expires is None else datetime.fromisoformat(expires)
    except (ValueError, KeyError, TypeError) as error:
        raise ProviderError(f"{name}: an ExecCredential with a token was expected: {error!r}") from error
    return str(token), until
