"""Names and UIDs of pods that come from files and URLs, as kubelet gives them."""

from __future__ import annotations

import re

from protokube.agent.core.model import Pod
from protokube.agent.core.pods import CONTENT, SOURCE, canonical, digest, with_annotations

_UID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""UIDs become names of units, containers and files."""

_TOLERATION = {"operator": "Exists", "effect": "NoExecute"}


def is_uid(text: str) -> bool:
    """Whether a text is a UID as it is taken here: 32 hex digits, or a UUID in lower case."""
    return _UID.fullmatch(text) is not None


def static_pod(pod: Pod, *, node: str, owner: str, place: str) -> Pod:
    """The pod of a file or URL as it runs on this node.

    `owner` is kept with the running pod. `place` is `file:<file name>` or `url:<URL>`; it goes into the UID, so that
    the same pod in two files is two pods. A UID that the pod brings itself is kept.
    """
    metadata = pod["metadata"]
    host = node.lower()
    uid = metadata.get("uid") or digest(canonical(pod), f"host:{node}".encode(), place.encode())
    spec = pod["spec"]
    tolerations = [*(spec.get("tolerations") or []), _TOLERATION]
    named = {
        **pod,
        "metadata": {
            **metadata,
            "name": f"{metadata['name']}-{host}",
            "namespace": metadata.get("namespace") or "default",
            "uid": str(uid),
        },
        "spec": {**spec, "nodeName": node, "tolerations": tolerations},
    }
    return with_annotations(
        named,
        {
            "kubernetes.io/config.hash": str(uid),
            "kubernetes.io/config.source": "http" if owner == "http" else "file",
            SOURCE: owner,
            CONTENT: digest(canonical(pod)),
        },
    )
