"""Events about pods, as the API server keeps them."""

from __future__ import annotations

from protokube.agent.core.model import Json, Pod
from protokube.agent.core.pods import key_of, uid_of
from protokube.agent.core.status import time_text

COMPONENT = "virtual-kubelet"
EVERY = 60.0
"""Seconds in which a pod and a reason have one event."""
_LONGEST = 1024
"""Bytes of a message, as the API server takes them."""


def event_of(pod: Pod, node: str, reason: str, message: str, now: float, *, kind: str) -> Json:
    """A new event. `kind`: Normal or Warning."""
    namespace, name = key_of(pod)
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid_of(pod)}
    if "resourceVersion" in pod["metadata"]:
        about["resourceVersion"] = pod["metadata"]["resourceVersion"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{name[:200]}.", "namespace": namespace},
        "involvedObject": about,
        "reason": reason,
        "message": message[:_LONGEST],
        "type": kind,
        "source": {"component": COMPONENT, "host": node},
        "firstTimestamp": time_text(now),
        "lastTimestamp": time_text(now),
        "count": 1,
    }


def reason_of(call: str, error: str | None) -> str:
    """The reason of an event about a call: Create, Update or Delete."""
    return f"Provider{call}{'Success' if error is None else 'Failed'}"
