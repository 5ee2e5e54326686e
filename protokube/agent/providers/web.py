"""A provider behind HTTP, in any language: the Web provider of virtual-kubelet, its client end.

The contract is that of 2017, byte for byte on the wire; docs/web-provider.md has it with its odd corners. Where the
Go client crashed, hung or took an error for "absent", this one raises ProviderError, and the loop tries again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
from yarl import URL

from protokube.agent.core.model import Json, Pod, PodStatus
from protokube.agent.core.pods import key_of, title
from protokube.agent.http import webcodec
from protokube.agent.http.webconfig import WebConfig
from protokube.agent.ports import LogOptions, NotFoundError
from protokube.errors import ProviderError

TRIES = 3
"""Of a call whose connection failed. Every call may be repeated: pods are told apart by UID."""
CONNECT, CALL, EVENTS = 5.0, 30.0, 40.0
"""Seconds: to connect, for a call (for a log: between two pieces), for a long poll of 30 seconds."""
POLL = 5.0
"""Seconds between looks at a provider that doesn't tell of changes."""

T = TypeVar("T")


class WebProvider:
    """Pods of a provider behind HTTP. `pause` waits so many seconds; tests count instead."""

    def __init__(self, config: WebConfig, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._config = config
        self._pause = pause
        self._session: aiohttp.ClientSession | None = None
        self._capacity = dict(webcodec.NO_CAPACITY)
        self._conditions: Sequence[Json] = ()
        self._addresses: Sequence[Json] = ()

    async def close(self) -> None:
        """Close the connections. No pod ends."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # --- pods ---

    async def create_pod(self, pod: Pod) -> None:
        """POST /createPod."""
        await self._write("POST", "createPod", pod)

    async def update_pod(self, pod: Pod) -> None:
        """PUT /updatePod."""
        await self._write("PUT", "updatePod", pod)

    async def delete_pod(self, pod: Pod) -> None:
        """DELETE /deletePod. Raises NotFoundError for 404: the pod is gone already."""
        if await self._write("DELETE", "deletePod", pod, absent=True) == 404:
            raise NotFoundError(f"{title(pod)}: the provider has no such pod")

    async def get_pod(self, namespace: str, name: str) -> Pod | None:
        """GET /getPod. A 404 means absent, whatever its reason phrase."""
        query = (("namespace", namespace), ("name", name))
        status, content = await self._call("GET", webcodec.path("getPod", query), absent=True)
        pod = None if status == 404 else webcodec.read_pod(content, "GET /getPod")
        if pod is not None and key_of(pod) != (namespace, name):
            raise ProviderError(f"GET /getPod: expected pod {namespace}/{name}, got {title(pod)}")
        return pod

    async def get_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        """GET /getPodStatus."""
        query = (("namespace", namespace), ("name", name))
        status, content = await self._call("GET", webcodec.path("getPodStatus", query), absent=True)
        return None if status == 404 else webcodec.read_status(content, "GET /getPodStatus")

    async def get_pods(self) -> Sequence[Pod]:
        """GET /getPods. Anything but an array of pods is a ProviderError, and never "no pods"."""
        status, content = await self._call("GET", "/getPods")
        if status == 204:
            raise ProviderError("GET /getPods: expected an array of Pod objects, got 204 without one")
        return webcodec.read_pods(content, "GET /getPods")

    async def container_logs(
        self, namespace: str, pod: str, container: str, options: LogOptions
    ) -> AsyncIterator[bytes]:
        """GET /getContainerLogs: the bytes as they come; 204 means no lines. The contract can't follow."""
        query = [("namespace", namespace), ("podName", pod), ("containerName", container)]
        target = webcodec.path("getContainerLogs", [*query, ("tail", str(options.tail or 0))])
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT, sock_read=CALL)
        async with self._answer("GET", target, None, timeout) as answer:
            if answer.status == 404:
                raise NotFoundError(f"{namespace}/{pod}: the provider has no log of container {container}")
            await _check("GET /getContainerLogs", answer)
            async for piece in answer.content.iter_any():
                yield piece

    # --- the node ---

    async def capacity(self) -> dict[str, str]:
        """GET /capacity; the last known one while the provider doesn't say."""
        self._capacity = await self._known("/capacity", webcodec.read_capacity, self._capacity)
        return self._capacity

    async def node_conditions(self) -> Sequence[Json]:
        """GET /nodeConditions; a node that isn't Ready, with the reason, while the provider doesn't say."""
        try:
            _, content = await self._call("GET", "/nodeConditions")
            self._conditions = webcodec.read_conditions(content, "GET /nodeConditions")
        except ProviderError as error:
            others = [one for one in self._conditions if one.get("type") != "Ready"]
            ready = {"type": "Ready", "status": "False", "reason": "ProviderUnreachable", "message": str(error)}
            return [*others, ready]
        return self._conditions

    async def node_addresses(self) -> Sequence[Json]:
        """GET /nodeAddresses; the last known ones while the provider doesn't say."""
        self._addresses = await self._known("/nodeAddresses", webcodec.read_addresses, self._addresses)
        return self._addresses

    def operating_system(self) -> str:
        """Linux: the contract of 2017 has no such question, and the Go client answered this."""
        return "linux"

    async def ping(self) -> None:
        """Ask for the capacity, the cheapest question that every provider answers. Raises ProviderError."""
        _, content = await self._call("GET", "/capacity")
        webcodec.read_capacity(content, "GET /capacity")

    async def changes(self) -> AsyncIterator[Pod | None]:
        """Long-poll /podEvents; a provider without it is looked at every 5 seconds."""
        after, told = 0, True
        while True:
            before = after
            try:
                events = await self._events(after) if told else None
            except ProviderError:
                after = 0  # whatever happened meanwhile, a look at all of them finds it
            else:
                told = events is not None
                if events is not None:
                    after, pods = events
                    for pod in pods:
                        yield pod
                    if not pods and after != before:
                        yield None
                    continue
            await self._pause(POLL)
            yield None

    async def _events(self, after: int) -> tuple[int, list[Pod]] | None:
        """Where to go on and the pods that changed; None where the provider doesn't tell."""
        target = webcodec.path("podEvents", [("after", str(after))])
        status, content = await self._call("GET", target, absent=True, limit=EVENTS)
        return None if status == 404 else webcodec.read_events(content, "GET /podEvents")

    # --- calls ---

    async def _known(self, target: str, read: Callable[[bytes, str], T], last: T) -> T:
        try:
            _, content = await self._call("GET", target)
            return read(content, f"GET {target}")
        except ProviderError:
            return last

    async def _write(self, verb: str, name: str, pod: Pod, *, absent: bool = False) -> int:
        status, _ = await self._call(verb, webcodec.path(name), webcodec.request_body(pod), absent=absent)
        return status

    async def _call(
        self, verb: str, target: str, body: bytes | None = None, *, absent: bool = False, limit: float = CALL
    ) -> tuple[int, bytes]:
        """One answer, whole. `absent`: 404 is an answer too. Raises ProviderError for all but these and 2xx."""
        call = f"{verb} {target.partition('?')[0]}"
        timeout = aiohttp.ClientTimeout(total=limit, sock_connect=CONNECT)
        async with self._answer(verb, target, body, timeout) as answer:
            if absent and answer.status == 404:
                return 404, b""
            await _check(call, answer)
            return answer.status, await _whole(call, answer)

    @asynccontextmanager
    async def _answer(
        self, verb: str, target: str, body: bytes | None, timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer whose body is still to be read. A connection that fails before is made again, three times."""
        call = f"{verb} {target.partition('?')[0]}"
        answer = await self._begin(call, target, body, timeout)
        try:
            yield answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ProviderError(f"{call}: the answer was cut off ({_said(error)})") from error
        finally:
            answer.close()

    async def _begin(
        self, call: str, target: str, body: bytes | None, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        verb, url = call.partition(" ")[0], URL(self._config.url + target, encoded=True)
        headers = self._config.authorization()  # read for each call: tokens are exchanged while we run
        for tried in range(1, TRIES + 1):
            try:
                return await self._opened().request(
                    verb, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
                )
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
                if tried == TRIES:
                    raise ProviderError(f"{call}: {_said(error)}") from error
                await self._pause(0.1 * 2**tried * random.uniform(0.5, 1.5))
            except (aiohttp.ClientError, TimeoutError) as error:
                raise ProviderError(f"{call}: {_said(error)}") from error
        raise AssertionError("the last try returns or raises")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._config.tls()) if self._config.secure else None
            # Go's client names a content type on every request, and servers in the field look for it.
            headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
            self._session = aiohttp.ClientSession(connector=connector, headers=headers)
        return self._session


async def _check(call: str, answer: aiohttp.ClientResponse) -> None:
    """Raise ProviderError with the beginning of the body for an answer that isn't 2xx."""
    if 200 <= answer.status < 300:
        return
    said = (await answer.content.read(1024)).decode(errors="replace").strip()
    if 300 <= answer.status < 400:
        said = f"it leads to {answer.headers.get('Location')}, which isn't followed: a POST would become a GET"
    raise ProviderError(f"{call}: {answer.status} {answer.reason or ''}".rstrip() + (f": {said}" if said else ""))


async def _whole(call: str, answer: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for piece in answer.content.iter_any():
        content += piece
        if len(content) > webcodec.LARGEST_ANSWER:
            raise ProviderError(f"{call}: expected an answer of at most {webcodec.LARGEST_ANSWER} bytes, got more")
    return bytes(content)


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
