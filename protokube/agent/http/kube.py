"""An API server, asked with plain JSON: no field is lost, whatever version it is of.

The generated clients drop fields that they don't know (kubernetes-asyncio, lightkube); a pod would lose them here.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp

from protokube.agent.core.model import Json
from protokube.agent.http.credentials import PluginCredentials, Shown
from protokube.agent.http.kubeconfig import KubeConfig
from protokube.errors import ProviderError
from protokube.kubeapi.http import JSON, KubeError

STRATEGIC = "application/strategic-merge-patch+json"
LIMIT = 10.0
"""Seconds of a request, from connecting to the last byte."""
QUIET = 130.0
"""Seconds without a byte after which a watch is held for dead: an API server sends a bookmark each minute."""
_LARGEST = 64 << 20
_LONGEST_LINE = 16 << 20
"""Bytes; an object has at most 1.5 MB in etcd."""


class KubeClient:
    """Requests to one API server. Use it in one event loop, and close it."""

    def __init__(self, config: KubeConfig, *, limit: float = LIMIT, quiet: float = QUIET) -> None:
        self.config = config
        self._limit = limit
        self._quiet = quiet
        self._plugin = None if config.plugin is None else PluginCredentials(config.plugin)
        self._session: aiohttp.ClientSession | None = None
        self._context: ssl.SSLContext | None = None
        self._stamp: object = None

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str, **query: str) -> Json | None:
        """An object, or a list; None when there is none. Raises ProviderError."""
        try:
            return await self._request("GET", _with(path, query))
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def create(self, path: str, body: Json) -> Json:
        """Make an object. Raises KubeError with reason AlreadyExists when it is there."""
        return await self._request("POST", path, body)

    async def replace(self, path: str, body: Json) -> Json:
        """Put a changed object in its place. Raises KubeError with reason Conflict when somebody was faster."""
        return await self._request("PUT", path, body)

    async def patch(self, path: str, body: Json, kind: str = STRATEGIC) -> Json:
        """Change some fields of an object."""
        return await self._request("PATCH", path, body, kind)

    async def delete(self, path: str, *, uid: str, grace: int = 0) -> None:
        """Delete the object of this UID; one that is gone, or of another UID, is fine. Raises ProviderError."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": grace,
            "preconditions": {"uid": uid},
        }
        try:
            await self._request("DELETE", path, body)
        except KubeError as error:
            if not await self.is_gone(path, uid, error):
                raise

    async def is_gone(self, path: str, uid: str, refusal: KubeError) -> bool:
        """Whether a request was refused since the object of this UID is no more. Raises ProviderError.

        409 says so of another UID, and of a race that was lost as well: then the object tells.
        """
        if refusal.status != 409:
            return refusal.status == 404
        found = await self.get(path)
        return found is None or found.get("metadata", {}).get("uid") != uid

    async def watch(self, path: str, **query: str) -> AsyncIterator[Json]:
        """Changes below a path, until the API server ends the watch in order.

        Raises KubeError when it refuses, ProviderError when the watch breaks, also in the middle of a line.
        """
        where = _with(path, {**query, "watch": "true"})
        call = f"GET {self.config.server}{where}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._limit, sock_read=self._quiet)
        rest = bytearray()
        shown = await self._shown()
        try:
            async with self._opened().get(
                self.config.server + where, timeout=timeout, **self._how(shown)
            ) as response:
                if response.status >= 400:
                    self._is_stale(response.status, shown)  # the next request has others
                    raise _refusal(response.status, await response.content.read(_LARGEST), call)
                async for part in response.content.iter_any():
                    rest += part
                    *lines, last = rest.split(b"\n")
                    rest = bytearray(last)
                    for line in lines:
                        if line.strip():
                            yield _mapping(line, call)
                    if len(rest) > _LONGEST_LINE:
                        raise ProviderError(f"{call}: a line of more than {_LONGEST_LINE} bytes")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ProviderError(f"{call}: {_said(error)}") from error
        if rest.strip():
            raise ProviderError(f"{call}: it broke off in the middle of a line")

    async def _request(self, method: str, path: str, body: Json | None = None, kind: str = JSON) -> Json:
        """One request. A program's credentials that are refused are asked for anew, once. Raises ProviderError."""
        shown = await self._shown()
        try:
            return await self._asked(method, path, body, kind, shown)
        except KubeError as error:
            if not self._is_stale(error.status, shown):
                raise
        return await self._asked(method, path, body, kind, await self._shown())

    async def _asked(self, method: str, path: str, body: Json | None, kind: str, shown: Shown) -> Json:
        call = f"{method} {self.config.server}{path}"
        how = self._how(shown)
        if body is not None:
            how["data"] = json.dumps(body).encode()
            how["headers"]["Content-Type"] = kind
        timeout = aiohttp.ClientTimeout(total=self._limit)
        try:
            async with self._opened().request(method, self.config.server + path, timeout=timeout, **how) as response:
                content = await _whole(response, call)
                if response.status >= 400:
                    raise _refusal(response.status, content, call)
        except TimeoutError as error:
            raise ProviderError(f"{call}: no answer within {self._limit:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ProviderError(f"{call}: {_said(error)}") from error
        return _mapping(content, call)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False)
        return self._session

    async def _shown(self) -> Shown:
        """What is shown now besides the configuration's certificate. Raises ProviderError."""
        if self.config.token_file is not None:
            return Shown(await asyncio.to_thread(_token, self.config.token_file))
        if self._plugin is not None:
            return await self._plugin.shown()
        return Shown(self.config.token)

    def _is_stale(self, status: int, shown: Shown) -> bool:
        """Whether a program's credentials were refused; they aren't used again then."""
        if status != 401 or self._plugin is None:
            return False
        self._plugin.refuse(shown)
        return True

    def _how(self, shown: Shown) -> dict[str, Any]:
        """TLS and headers, with certificates as they are now."""
        config = self.config
        headers = {"Accept": JSON, "Accept-Encoding": "identity", "User-Agent": "protokube-virtual-kubelet"}
        if shown.token:
            headers["Authorization"] = f"Bearer {shown.token}"
        how: dict[str, Any] = {"headers": headers, "allow_redirects": False}
        if config.server.startswith("https:"):
            stamp = (config.stamp(), shown.pair)
            if self._context is None or stamp != self._stamp:
                self._context, self._stamp = config.tls(shown.pair), stamp
            how["ssl"] = self._context
            if config.server_name is not None:
                how["server_hostname"] = config.server_name
        return how


def object_path(kind: str, namespace: str, name: str = "", part: str = "") -> str:
    """The path of an object of core/v1 in a namespace, of all of them, or of a part of one."""
    pieces = ["/api/v1/namespaces", quote(namespace, safe=""), kind]
    pieces += [quote(name, safe="")] if name else []
    pieces += [part] if part else []
    return "/".join(pieces)


async def _whole(response: aiohttp.ClientResponse, call: str) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > _LARGEST:
            raise ProviderError(f"{call}: an answer of more than {_LARGEST} bytes")
        parts.append(part)
    return b"".join(parts)


def _token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ProviderError(f"the token can't be read: {error}") from error


def _with(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _mapping(content: bytes | bytearray, call: str) -> Json:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise ProviderError(f"{call}: the answer is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ProviderError(f"{call}: an object was expected, got {str(found)[:200]}")
    return found


def _refusal(status: int, content: bytes, call: str) -> KubeError:
    """The API server's own words, which stand in a Status object."""
    try:
        found = json.loads(content)
    except ValueError:
        found = {}
    told = found if isinstance(found, dict) else {}
    reason = str(told.get("reason") or f"HTTP {status}")
    return KubeError(status, reason, f"{call}: {told.get('message') or reason}")


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
