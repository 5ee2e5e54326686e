"""Pods for tests, and what they are made of."""

from __future__ import annotations

from typing import Any

from protokube.agent.core.model import Pod
from protokube.agent.core.names import static_pod

UIDS = [f"{number:08d}-2222-3333-4444-555555555555" for number in range(1000)]


def manifest(name: str = "web", **spec: Any) -> Pod:
    """A pod as a file holds it."""
    container = {"name": "c", "image": "host", "command": ["sleep", "1000"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"hostNetwork": True, "containers": [container], **spec},
    }


def wanted(name: str = "web", uid: str | None = None, owner: str = "file:web.yaml", **spec: Any) -> Pod:
    """A pod as a source wants it."""
    pod = manifest(name, **spec)
    if uid is not None:
        pod["metadata"]["uid"] = uid
    return static_pod(pod, node="n1", owner=owner, place=owner)
