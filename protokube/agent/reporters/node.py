"""Keeps the node alive at the API server: its status, and its lease, by one timer.

While the provider can't be reached the node is not ready, and no lease is renewed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import quote

from protokube.agent.clock import boot_time, wall_time
from protokube.agent.core.model import Json
from protokube.agent.core.node import (
    NodeState,
    lease_object,
    not_ready,
    renewed,
    status_of,
    status_patch,
    transitions,
)
from protokube.agent.core.status import time_text
from protokube.agent.http.kube import KubeClient
from protokube.agent.registration import Registration
from protokube.errors import ProviderError

log = logging.getLogger("protokube")

EVERY = 10.0
"""Seconds between two renewals of the lease, as in kubelet."""
STATUS_EVERY = 60.0
"""Seconds after which an unchanged status is sent again."""
FIRST, LONGEST = 0.2, 7.0
"""Seconds between two tries of a renewal, as in kubelet."""
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class Look(Protocol):
    """Looks at the machine and its provider."""

    async def __call__(self) -> NodeState:
        """The node's state now. Raises ProviderError while the provider can't be reached."""


class NodeKeeper:
    """One node's status and lease."""

    def __init__(
        self,
        client: KubeClient,
        registration: Registration,
        look: Look,
        *,
        every: float = EVERY,
        status_every: float = STATUS_EVERY,
        clock: Callable[[], float] = boot_time,
        wall: Callable[[], float] = wall_time,
    ) -> None:
        self._client = client
        self._registration = registration
        self._look = look
        self._every = every
        self._status_every = status_every
        self._clock, self._wall = clock, wall
        self._state: NodeState | None = None
        self._sent: Json | None = None
        self._sent_at = 0.0
        self._conditions: Sequence[Json] = ()
        """As they were said last: a beat that fails is no transition."""
        self._since: dict[str, str] = {}
        self._lease: Json | None = None
        self._trouble: str | None = None

    async def run(self) -> None:
        """Go on until cancelled."""
        failures = 0
        while True:
            due = self._clock() + self._every
            try:
                await self._beat()
                if self._trouble is not None:
                    log.info("node %s: the API server answers again", self._registration.name)
                self._trouble, failures = None, 0
            except ProviderError as error:
                self._lease = self._sent = None
                if self._trouble is None:
                    log.warning("node %s: %s; the pods go on, and it is tried again", self._registration.name, error)
                self._trouble = str(error)
                pause = min(LONGEST, FIRST * 2.0**failures) * random.uniform(0.8, 1.2)
                failures = min(failures + 1, 10)
                due = self._clock() + pause
            await asyncio.sleep(max(0.0, due - self._clock()))

    async def _beat(self) -> None:
        """Look once; say what changed, and renew the lease whatever became of that. Raises ProviderError."""
        if self._registration.uid is None:
            await self._registration.ensure()
        state, unreachable = await self._looked()
        refusal: ProviderError | None = None
        try:
            await self._say(state)
        except ProviderError as error:
            refusal = error
        # A node that was deleted has no UID any more; the next beat makes it, and its lease.
        if not unreachable and self._registration.uid is not None:
            await self._renew()
        if refusal is not None:
            raise refusal

    async def _say(self, state: NodeState) -> None:
        """Say the status, when it changed or is due. Raises ProviderError."""
        status = status_of(self._registration.identity, state)
        changed = status != self._sent
        if changed or self._clock() >= self._sent_at + self._status_every:
            now = self._wall()
            since = transitions(self._conditions, status["conditions"], self._since, time_text(now))
            await self._registration.patch_status(status_patch(status, since, now))
            self._conditions, self._since = status["conditions"], since
            self._sent, self._sent_at = status, self._clock()

    async def _looked(self) -> tuple[NodeState, bool]:
        try:
            async with asyncio.timeout(self._every):
                state = self._state = await self._look()
        except (ProviderError, TimeoutError) as error:
            said = str(error) or f"no answer within {self._every:g} s"
            last = self._state or NodeState({}, (), ())
            condition = not_ready("ProviderUnreachable", said)
            return NodeState(last.capacity, last.addresses, (condition,)), True
        if (reason := self._registration.distrusted) is not None:
            condition = not_ready("AnotherCluster", reason)
            return NodeState(state.capacity, state.addresses, (condition,)), False
        return state, False

    async def _renew(self) -> None:
        name, uid = self._registration.name, self._registration.uid
        assert uid is not None, "it was registered"
        path = f"{LEASES}/{quote(name, safe='')}"
        if self._lease is None:
            self._lease = await self._client.get(path)
        if self._lease is None:
            self._lease = await self._client.create(LEASES, lease_object(name, uid, self._wall()))
        else:
            self._lease = await self._client.replace(path, renewed(self._lease, name, uid, self._wall()))
