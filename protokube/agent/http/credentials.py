"""Tokens and client certificates that a program prints, as client-go's exec plugins do.

They are kept until they expire, or are refused.
"""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import DEVNULL
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from protokube import asyncprocess
from protokube.agent.clock import boot_time, wall_time
from protokube.agent.core.backoff import Pause, after_failure
from protokube.agent.http.kubeconfig import Plugin
from protokube.errors import ProviderError

LIMIT = 60.0
"""Seconds that the program may take."""
FIRST, LONGEST = 1.0, 30.0
"""Seconds between two starts of a program that fails."""
_EARLY = timedelta(seconds=30)
"""Credentials are asked for anew before they expire."""
_FIELDS = ("token", "clientCertificateData", "clientKeyData")
_UNLIMITED = datetime.max.replace(tzinfo=UTC)


class Shown(Struct, frozen=True):
    """What an API server is shown of us: a token, a client certificate in PEM with its key, or both."""

    token: str | None = None
    pair: tuple[str, str] | None = None

    def __repr__(self) -> str:
        """Without secrets."""
        return "Shown(…)"


class PluginCredentials:
    """The credentials of one program, for all that ask side by side. Use it in one event loop."""

    def __init__(self, plugin: Plugin, clock: Callable[[], float] = boot_time) -> None:
        self._plugin = plugin
        self._clock = clock
        self._lock = asyncio.Lock()
        self._kept: tuple[Shown, datetime] | None = None
        self._pause = Pause()
        self._trouble = ""

    async def shown(self) -> Shown:
        """The credentials, of a program that is started when none are kept. Raises ProviderError.

        After a failure the program is left alone for a while, and the failure is raised again.
        """
        async with self._lock:
            now = datetime.fromtimestamp(wall_time(), UTC)
            if self._kept is not None and now + _EARLY < self._kept[1]:
                return self._kept[0]
            if self._clock() < self._pause.until:
                raise ProviderError(self._trouble)
            try:
                self._kept = await _asked(self._plugin)
            except ProviderError as error:
                self._pause = after_failure(self._pause, self._clock(), first=FIRST, longest=LONGEST)
                self._trouble = str(error)
                raise
            self._pause = Pause()
            return self._kept[0]

    def refuse(self, shown: Shown) -> None:
        """Keep these no more: the API server refused them."""
        if self._kept is not None and self._kept[0] == shown:
            self._kept = None


async def _asked(plugin: Plugin) -> tuple[Shown, datetime]:
    """What the program prints. Raises ProviderError."""
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
    return _read(name, said)


def _read(name: str, said: bytes) -> tuple[Shown, datetime]:
    try:
        status = json.loads(said)["status"]
        token, certificate, key = (status.get(one) or "" for one in _FIELDS)
        expires = status.get("expirationTimestamp")
        until = _UNLIMITED if expires is None else datetime.fromisoformat(expires)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProviderError(f"{name}: an ExecCredential was expected: {error!r}") from error
    if not all(isinstance(one, str) for one in (token, certificate, key)):
        raise ProviderError(f"{name}: an ExecCredential was expected; of {', '.join(_FIELDS)} one is no text")
    if not (token or certificate) or bool(certificate) != bool(key):
        raise ProviderError(f"{name}: an ExecCredential with a token, or a certificate and its key, was expected")
    if until.tzinfo is None:
        raise ProviderError(f"{name}: expirationTimestamp: a time with its zone was expected, got {expires}")
    return Shown(token or None, (certificate, key) if certificate else None), until
