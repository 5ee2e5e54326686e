"""The pods that an API server binds to this node: a list, and then what changes.

A list that fails is Unknown, and so is one of an API server that doesn't know this node: see core/trust.py. Every
list is as new as what was seen last, whichever API server answers: the first asks etcd, later ones name a version.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from protokube.agent.clock import boot_time
from protokube.agent.core.apipods import api_pod, is_mirror
from protokube.agent.core.model import Json, Pod
from protokube.agent.core.pods import key_of, title, uid_of
from protokube.agent.core.trust import distrust
from protokube.agent.http.kube import KubeClient
from protokube.agent.ports import Say
from protokube.agent.registration import Registration
from protokube.core.model import Unknown
from protokube.errors import ProviderError
from protokube.kubeapi.http import KubeError

log = logging.getLogger("protokube")

PODS = "/api/v1/pods"
FIRST, LONGEST = 0.8, 30.0
"""Seconds between two tries, as in client-go's reflector: doubled each time, with jitter."""
_WATCH = (300, 600)
"""Seconds after which the API server ends a watch: at random, so that not all nodes come back at once."""
_SHORTEST = 1.0
"""Seconds below which a watch without a change is held for broken, as in client-go."""
_OUTDATED = (410, 504)
"""Gone: the version is too old. Gateway Timeout: it is newer than all that the API server knows."""


class Strange(Protocol):
    """Told of pods that are bound to this node and aren't run."""

    def __call__(self, pod: Pod, reason: str, message: str) -> None:
        """Say so once."""


class ApiSource:
    """The pods of one node. `namespace` limits them; '' is all.

    `running`: UIDs of the API server's pods that run here; None while that isn't known. `mirrors` is called with all
    mirror pods of this node whenever something changes; None means that they are unknown.
    """

    name = "api"

    def __init__(
        self,
        client: KubeClient,
        registration: Registration,
        *,
        running: Callable[[], Collection[str] | None],
        mirrors: Callable[[Collection[Pod] | None], None],
        strange: Strange,
        namespace: str = "",
        first: float = FIRST,
    ) -> None:
        self._client = client
        self._registration = registration
        self._namespace = namespace
        self._running = running
        self._mirrors = mirrors
        self._strange = strange
        self._first = first
        self._query = {"fieldSelector": f"spec.nodeName={registration.name}"}
        self._pods: dict[str, Pod] = {}
        self._version: str | None = None
        self._told: set[str] = set()

    async def run(self, say: Say) -> None:
        """Say the pods now and with every change, until cancelled."""
        failures = 0
        while True:
            try:
                await self._list()
                self._say(say)
                if await self._follow(say):
                    failures = 0
            except ProviderError as error:
                self._version = None if _is_outdated(error) else self._version
                say(Unknown(str(error)))
                self._mirrors(None)
            delay = min(LONGEST, self._first * 2.0**failures) * random.uniform(0.5, 1.5)
            failures = min(failures + 1, 16)
            await asyncio.sleep(delay)

    async def _list(self) -> None:
        """List the pods, and see whether the list can be believed. Raises ProviderError."""
        # Not older than what was seen: an API server that lags behind waits until it knows as much.
        query = self._query | ({} if self._version is None else {"resourceVersion": self._version})
        answer = await self._client.get(PODS, **query)
        if answer is None:
            raise ProviderError(f"GET {PODS}: there is no such thing there; is it an API server?")
        pods = {uid_of(one): one for one in answer.get("items") or ()}
        node = await self._registration.current()
        if node != self._registration.trusted:
            self._judge(node, [uid for uid, pod in pods.items() if not is_mirror(pod)])
        self._registration.distrusted = None
        if node is None:
            raise ProviderError("the node isn't registered yet")
        await self._registration.trust(node)
        self._pods, self._version = pods, _version_of(answer)

    def _judge(self, node: str | None, listed: Collection[str]) -> None:
        running = self._running()
        if running is None:
            raise ProviderError("what runs here isn't known yet")
        reason = distrust(self._registration.trusted, node, running, listed)
        self._registration.distrusted = reason
        if reason is not None:
            raise ProviderError(reason)

    async def _follow(self, say: Say) -> bool:
        """Follow watches until one breaks; whether it lasted. A list tells then whether the API server is there."""
        began = boot_time()
        try:
            while True:
                await self._watch(say)
        except ProviderError as error:
            log.debug("%s; the pods are listed again", error)
            if _is_outdated(error):
                self._version = None
        return boot_time() - began > LONGEST

    async def _watch(self, say: Say) -> None:
        """Follow one watch to its end in order. Raises ProviderError, also when it ended at once: see _SHORTEST."""
        began, changes = boot_time(), 0
        query = {
            **self._query,
            "resourceVersion": str(self._version),
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(*_WATCH)),
        }
        async for event in self._client.watch(PODS, **query):
            self._take(event, say)
            changes += event.get("type") != "BOOKMARK"
        if not changes and boot_time() - began < _SHORTEST:
            raise ProviderError(f"watch {PODS}: the API server ended it at once")

    def _take(self, event: Json, say: Say) -> None:
        kind, found = event.get("type"), event.get("object") or {}
        if kind == "ERROR":
            code = found.get("code")
            status = code if isinstance(code, int) else 500
            raise KubeError(status, str(found.get("reason")), f"watch {PODS}: {found.get('message')}")
        self._version = _version_of(found)
        if kind == "BOOKMARK":
            return
        uid = uid_of(found)
        if kind == "DELETED":
            self._pods.pop(uid, None)
        else:
            self._pods[uid] = found
        self._say(say)

    def _say(self, say: Say) -> None:
        mine: dict[str, Pod] = {}
        mirrors = []
        for uid, pod in self._pods.items():
            if is_mirror(pod):
                mirrors.append(pod)
            elif self._namespace and key_of(pod)[0] != self._namespace:
                self._not_ours(uid, pod)
            else:
                mine[uid] = api_pod(pod)
        self._told &= self._pods.keys()
        self._mirrors(mirrors)
        say(mine)

    def _not_ours(self, uid: str, pod: Pod) -> None:
        if uid not in self._told:
            self._told.add(uid)
            message = f"this node runs the pods of namespace {self._namespace} alone (--namespace)"
            log.warning("%s: %s", title(pod), message)
            self._strange(pod, "NamespaceNotServed", message)


def _is_outdated(error: ProviderError) -> bool:
    return isinstance(error, KubeError) and error.status in _OUTDATED


def _version_of(found: Mapping[str, Any]) -> str:
    try:
        return str(found["metadata"]["resourceVersion"])
    except (KeyError, TypeError) as error:
        raise ProviderError(f"{PODS}: an object without a resourceVersion: {str(found)[:200]}") from error
