"""Shows static pods at the API server as mirror pods. Deleting one there stops nothing: it is made again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from functools import partial

from protokube.agent.clock import boot_time
from protokube.agent.core.apipods import mirror_changes, mirror_of
from protokube.agent.core.backoff import Pause, after_failure
from protokube.agent.core.model import Json, Pod
from protokube.agent.core.pods import key_of, uid_of
from protokube.agent.http.kube import KubeClient, object_path
from protokube.agent.registration import Registration
from protokube.agent.reporters.api import patch_status
from protokube.errors import ProviderError
from protokube.kubeapi.http import KubeError

log = logging.getLogger("protokube")


class Mirrors:
    """The mirrors of one node. `settled` tells whether it is known which static pods there are."""

    def __init__(
        self,
        client: KubeClient,
        registration: Registration,
        settled: Callable[[], bool],
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self._client = client
        self._registration = registration
        self._settled = settled
        self._clock = clock
        self._static: dict[str, Pod] = {}
        self._there: Collection[Pod] | None = None
        self._sent: dict[str, Json] = {}
        self._wake = asyncio.Event()
        self._trouble = ""

    def static(self, uid: str, pod: Pod | None) -> None:
        """Take in a static pod's newest status, or that it is gone."""
        if pod is None:
            self._static.pop(uid, None)
        else:
            self._static[uid] = pod
        self._wake.set()

    def seen(self, mirrors: Collection[Pod] | None) -> None:
        """Take in the mirrors that are there; None while that is unknown."""
        self._there = mirrors
        self._wake.set()

    async def run(self) -> None:
        """Keep the mirrors right until cancelled."""
        pause = Pause()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._step()
                pause, self._trouble = Pause(), ""
            except ProviderError as error:
                pause = after_failure(pause, self._clock(), first=1.0, longest=60.0)
                if str(error) != self._trouble:
                    log.warning("mirror pods: %s; it is tried again", error)
                self._trouble = str(error)
                await asyncio.sleep(pause.until - self._clock())
                self._wake.set()

    async def _step(self) -> None:
        """Do all that can be done; raise what went wrong in the end."""
        node_uid = self._registration.uid
        if self._there is None or node_uid is None:
            return  # the next list wakes it
        create, stand, delete = mirror_changes(list(self._static.values()), self._there, settled=self._settled())
        calls: list[Callable[[], Awaitable[object]]] = [partial(self._delete, mirror) for mirror in delete]
        calls += [partial(self._create, pod, node_uid) for pod in create]
        calls += [partial(patch_status, self._client, pod, uid_of(mirror), self._sent) for pod, mirror in stand]
        troubles = []
        for call in calls:
            try:
                await call()
            except ProviderError as error:
                troubles.append(str(error))
        there = {uid_of(mirror) for mirror in self._there}
        self._sent = {uid: status for uid, status in self._sent.items() if uid in there}
        if troubles:
            raise ProviderError("; ".join(troubles))

    async def _delete(self, mirror: Pod) -> None:
        await self._client.delete(object_path("pods", *key_of(mirror)), uid=uid_of(mirror))

    async def _create(self, pod: Pod, node_uid: str) -> None:
        namespace, _ = key_of(pod)
        mirror = mirror_of(pod, self._registration.name, node_uid)
        try:
            await self._client.create(object_path("pods", namespace), mirror)
        except KubeError as error:
            if error.reason != "AlreadyExists":  # the watch shows what it is then
                raise
