"""What a pod says of itself: who it is, whose it is, how long it may take to end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from protokube.agent.core.model import Pod

SOURCE = "protokube.io/source"
"""The annotation that names a pod's owner: `file:<file name>`, `http`, `api`, `redis`."""
CONTENT = "protokube.io/content"
"""The annotation that tells one content from another under the same UID."""
API = "api"
"""The owner of the API server's pods."""
DEFAULT_GRACE = 30
TERMINAL = ("Succeeded", "Failed")


def uid_of(pod: Pod) -> str:
    """The pod's UID."""
    return str(pod["metadata"]["uid"])


def key_of(pod: Pod) -> tuple[str, str]:
    """Namespace and name."""
    return str(pod["metadata"].get("namespace", "default")), str(pod["metadata"]["name"])


def title(pod: Pod) -> str:
    """The pod in messages, `namespace/name`."""
    return "/".join(key_of(pod))


def annotation(pod: Pod, name: str) -> str | None:
    """One annotation, None when it is absent."""
    value = (pod["metadata"].get("annotations") or {}).get(name)
    return None if value is None else str(value)


def owner_of(pod: Pod) -> str | None:
    """The owner that the pod was created for; None: nobody of ours."""
    return annotation(pod, SOURCE)


def source_name(owner: str) -> str:
    """The name of an owner's source."""
    return owner.partition(":")[0]


def phase_of(pod: Pod) -> str:
    """The phase of the pod's status; empty when there is none."""
    return str((pod.get("status") or {}).get("phase", ""))


def is_deleting(pod: Pod) -> bool:
    """Whether the pod is on its way out."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def grace_of(pod: Pod) -> int:
    """Seconds that the pod may take to end: those of its deletion, else its own, else 30."""
    for given in (
        pod["metadata"].get("deletionGracePeriodSeconds"),
        (pod.get("spec") or {}).get("terminationGracePeriodSeconds"),
    ):
        if given is not None:
            return int(given)
    return DEFAULT_GRACE


def with_annotations(pod: Pod, annotations: Mapping[str, str]) -> Pod:
    """A copy of the pod with these annotations besides its own."""
    metadata = pod["metadata"]
    own = metadata.get("annotations") or {}
    return {**pod, "metadata": {**metadata, "annotations": {**own, **annotations}}}


def canonical(value: Any) -> bytes:
    """JSON bytes that depend on neither white space nor the order of keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(*parts: bytes) -> str:
    """The first 32 hex digits of SHA-256 over the parts."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:32]
