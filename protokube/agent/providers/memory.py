"""Pods that only exist in memory, for tests and for trying sources: they "run" as soon as they were created."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

from protokube.agent.clock import wall_time
from protokube.agent.core.model import Pod, PodStatus
from protokube.agent.core.pods import grace_of, is_deleting, key_of, uid_of
from protokube.agent.core.status import time_text
from protokube.agent.ports import LogOptions, NotFoundError
from protokube.errors import ProviderError


class MemoryProvider:
    """The pods by UID. `calls` counts every call by its name.

    `obstacle`, when set, is asked before each call with its name and may raise. `linger`: pods that are deleted stay
    until `end` is called, as a real one's do for their grace.
    """

    def __init__(self, clock: Callable[[], float] = wall_time, *, linger: bool = False) -> None:
        self.pods: dict[str, Pod] = {}
        self.calls: Counter[str] = Counter()
        self.obstacle: Callable[[str], None] | None = None
        self.linger = linger
        self._clock = clock
        self._listeners: list[asyncio.Queue[Pod | None]] = []

    async def create_pod(self, pod: Pod) -> None:
        """Run the pod; a second call for the same UID changes nothing."""
        self._called("create_pod")
        if uid_of(pod) in self.pods:
            return
        if any(key_of(other) == key_of(pod) for other in self.pods.values()):
            raise ProviderError(f"pod {'/'.join(key_of(pod))} exists under another UID; delete that first")
        self._put({**pod, "status": self._status(pod, "Running")})

    async def update_pod(self, pod: Pod) -> None:
        """Replace the pod's content; its status stays."""
        self._called("update_pod")
        self._put({**pod, "status": self._of(pod)["status"]})

    async def delete_pod(self, pod: Pod) -> None:
        """End the pod, at once or when `end` is called."""
        self._called("delete_pod")
        there = self._of(pod)
        metadata = {
            **there["metadata"],
            "deletionTimestamp": time_text(self._clock()),
            "deletionGracePeriodSeconds": grace_of(pod),
        }
        self._put({**there, "metadata": metadata})
        if not self.linger:
            self.end(uid_of(pod))

    async def get_pod(self, namespace: str, name: str) -> Pod | None:
        """The pod of that name."""
        self._called("get_pod")
        return next((pod for pod in self.pods.values() if key_of(pod) == (namespace, name)), None)

    async def get_pod_status(self, namespace: str, name: str) -> PodStatus | None:
        """The status of the pod of that name."""
        pod = await self.get_pod(namespace, name)
        return pod["status"] if pod is not None else None

    async def get_pods(self) -> Sequence[Pod]:
        """Every pod."""
        self._called("get_pods")
        return list(self.pods.values())

    async def changes(self) -> AsyncIterator[Pod | None]:
        """Yield each pod that changes."""
        queue: asyncio.Queue[Pod | None] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)

    async def container_logs(
        self, namespace: str, pod: str, container: str, options: LogOptions
    ) -> AsyncIterator[bytes]:
        """Yield nothing: these containers print nothing."""
        there = await self.get_pod(namespace, pod)
        if there is None or all(one["name"] != container for one in there["spec"]["containers"]):
            raise NotFoundError(f"{namespace}/{pod}: there is no container {container}")
        for _ in range(options.tail or 0):
            yield b""

    # --- what a world does to pods ---

    def set_phase(self, uid: str, phase: str) -> None:
        """Have the pod's containers end or start."""
        pod = self.pods[uid]
        self._put({**pod, "status": self._status(pod, phase)})

    def end(self, uid: str) -> None:
        """Have a pod be gone."""
        pod = self.pods.pop(uid)
        metadata = {"deletionTimestamp": time_text(self._clock()), **pod["metadata"]}
        self._tell({**pod, "metadata": metadata, "status": self._status(pod, "Succeeded")})

    def lose(self, uid: str) -> None:
        """Have a pod vanish without a word but that all are to be looked at."""
        del self.pods[uid]
        self._tell(None)

    def _called(self, name: str) -> None:
        self.calls[name] += 1
        if self.obstacle is not None:
            self.obstacle(name)

    def _of(self, pod: Pod) -> Pod:
        there = self.pods.get(uid_of(pod))
        if there is None:
            raise NotFoundError(f"{'/'.join(key_of(pod))}: there is no such pod")
        return there

    def _put(self, pod: Pod) -> None:
        self.pods[uid_of(pod)] = pod
        if not is_deleting(pod) or self.linger:
            self._tell(pod)

    def _tell(self, pod: Pod | None) -> None:
        for queue in self._listeners:
            queue.put_nowait(pod)

    def _status(self, pod: Pod, phase: str) -> PodStatus:
        now = time_text(self._clock())
        running = phase == "Running"
        state = {"running": {"startedAt": now}} if running else {"terminated": {"exitCode": int(phase == "Failed")}}
        return {
            "phase": phase,
            "startTime": now,
            "conditions": [{"type": "Ready", "status": str(running), "lastTransitionTime": now}],
            "containerStatuses": [
                {
                    "name": one["name"],
                    "image": one.get("image", ""),
                    "ready": running,
                    "restartCount": 0,
                    "state": state,
                }
                for one in pod["spec"]["containers"]
            ],
        }
