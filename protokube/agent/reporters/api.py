"""Reports pods to their API server, and confirms their end there."""

from __future__ import annotations

import logging
from collections.abc import Callable

from protokube.agent.core.apipods import is_static, status_patch
from protokube.agent.core.model import Json, Pod
from protokube.agent.core.pods import API, is_deleting, key_of, owner_of, title, uid_of
from protokube.agent.http.kube import KubeClient, object_path
from protokube.agent.reporters.events import Events
from protokube.kubeapi.http import KubeError

UNRESOLVED = "CreateContainerConfigError"

log = logging.getLogger("protokube")


class ApiReporter:
    """Patches statuses. `static` is told of every report about a static pod, None when it is gone."""

    def __init__(self, client: KubeClient, static: Callable[[str, Pod | None], None], events: Events) -> None:
        self._events = events
        self._client = client
        self._static = static
        self._sent: dict[str, Json] = {}

    async def pod(self, pod: Pod) -> None:
        """Patch the pod's status, if it is another one than before. Raises ProviderError."""
        if is_static(pod):
            self._static(uid_of(pod), pod)
            return
        if owner_of(pod) != API:
            return
        self._tell_waiting(pod)
        if await patch_status(self._client, pod, uid_of(pod), self._sent):
            log.debug("%s: reported %s", title(pod), pod["status"].get("phase"))

    def _tell_waiting(self, pod: Pod) -> None:
        """Tell of a container that can't be started for what it refers to."""
        for field in ("initContainerStatuses", "containerStatuses"):
            for one in (pod.get("status") or {}).get(field) or ():
                waiting = (one.get("state") or {}).get("waiting") or {}
                if waiting.get("reason") == UNRESOLVED:
                    self._events.tell(pod, "Failed", f"container {one.get('name')}: {waiting.get('message')}")

    async def gone(self, pod: Pod) -> None:
        """Confirm the end of a pod that is being deleted there. Raises ProviderError."""
        uid = uid_of(pod)
        if is_static(pod):
            self._static(uid, None)
        elif owner_of(pod) == API and is_deleting(pod):
            await self._client.delete(object_path("pods", *key_of(pod)), uid=uid)
        self._sent.pop(uid, None)


async def patch_status(client: KubeClient, pod: Pod, uid: str, sent: dict[str, Json]) -> bool:
    """Patch the status of the pod's object of this UID, unless `sent` says that it has that already.

    False when that object is no more: a 409 may also say that a race was lost, and then it is raised, to be tried
    again. Raises ProviderError.
    """
    status = pod.get("status") or {}
    if sent.get(uid) == status:
        return True
    try:
        await client.patch(object_path("pods", *key_of(pod), part="status"), status_patch(uid, status))
    except KubeError as error:
        if await client.is_gone(object_path("pods", *key_of(pod)), uid, error):
            return False
        raise
    sent[uid] = status
    return True
