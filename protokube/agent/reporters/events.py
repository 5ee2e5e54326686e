"""Events at the API server: few, and losing one costs nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from protokube.agent.clock import boot_time, wall_time
from protokube.agent.core.apipods import is_static
from protokube.agent.core.kubeevents import EVERY, event_of, reason_of
from protokube.agent.core.model import Json, Pod
from protokube.agent.core.pods import API, key_of, owner_of, uid_of
from protokube.agent.core.status import time_text
from protokube.agent.http.kube import KubeClient, object_path
from protokube.errors import ProviderError

log = logging.getLogger("protokube")

_WAITING = 100
"""Events that wait to be sent; more are dropped."""
_KEPT = 1000


class Events:
    """Tells of what is done with the API server's pods: one event a minute for a pod and a reason.

    The same message later is counted in the event that is there.
    """

    def __init__(
        self,
        client: KubeClient,
        node: str,
        clock: Callable[[], float] = boot_time,
        wall: Callable[[], float] = wall_time,
    ) -> None:
        self._client = client
        self._node = node
        self._clock, self._wall = clock, wall
        self._due: asyncio.Queue[tuple[Pod, str, str, str]] = asyncio.Queue(_WAITING)
        self._last: dict[tuple[str, str], float] = {}
        self._sent: dict[tuple[str, str, str], Json] = {}

    def happened(self, pod: Pod, call: str, error: str | None) -> None:
        """Tell of a Create, Update or Delete."""
        if owner_of(pod) == API and not is_static(pod):
            kind = "Normal" if error is None else "Warning"
            self.tell(pod, reason_of(call, error), error or f"{call}: done", kind=kind)

    def tell(self, pod: Pod, reason: str, message: str, *, kind: str = "Warning") -> None:
        """Tell of something, at most once a minute."""
        key = (uid_of(pod), reason)
        now = self._clock()
        if now < self._last.get(key, -EVERY) + EVERY:
            return
        self._last = {one: at for one, at in self._last.items() if now < at + EVERY}
        self._last[key] = now
        try:
            self._due.put_nowait((pod, reason, message, kind))
        except asyncio.QueueFull:
            log.debug("an event is dropped: too many wait to be sent")

    async def run(self) -> None:
        """Send events until cancelled. One that isn't taken is dropped."""
        while True:
            pod, reason, message, kind = await self._due.get()
            try:
                await self._send(pod, reason, message, kind)
            except ProviderError as error:
                log.debug("an event is dropped: %s", error)

    async def _send(self, pod: Pod, reason: str, message: str, kind: str) -> None:
        key = (uid_of(pod), reason, message)
        namespace, _ = key_of(pod)
        known = self._sent.pop(key, None)
        if known is not None:
            change = {"count": known["count"] + 1, "lastTimestamp": time_text(self._wall())}
            path = object_path("events", namespace, known["metadata"]["name"])
            self._sent[key] = await self._client.patch(path, change)
            return
        event = event_of(pod, self._node, reason, message, self._wall(), kind=kind)
        self._sent[key] = await self._client.create(object_path("events", namespace), event)
        while len(self._sent) > _KEPT:
            del self._sent[next(iter(self._sent))]
