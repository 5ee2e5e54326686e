"""Pods of an API server: as they are wanted here, and what is told of them there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from protokube.agent.core.model import Json, Pod, PodStatus
from protokube.agent.core.pods import (
    API,
    CONTENT,
    SOURCE,
    annotation,
    canonical,
    digest,
    is_deleting,
    key_of,
    owner_of,
    source_name,
    uid_of,
    with_annotations,
)

MIRROR = "kubernetes.io/config.mirror"
"""The annotation of a pod that only shows a static one; its value is that one's `kubernetes.io/config.hash`."""
HASH = "kubernetes.io/config.hash"
_CHANGEABLE = ("containers", "initContainers", "activeDeadlineSeconds", "tolerations")
_STATUS = (
    "phase",
    "reason",
    "message",
    "conditions",
    "startTime",
    "qosClass",
    "hostIP",
    "podIP",
    "podIPs",
    "initContainerStatuses",
    "containerStatuses",
)
"""The fields that are ours; those of others, such as `nominatedNodeName`, stay."""
_CLEARED = ("reason", "message")
"""Fields that are removed when the pod's status has them no more."""


def api_pod(pod: Pod) -> Pod:
    """A pod of the API server as it is wanted here: with its owner, whatever its own annotations claim.

    Its content is what may change under one UID, as it came: a provider may get it with values filled in.
    """
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    content = digest(
        canonical([metadata.get("labels"), metadata.get("annotations"), *(spec.get(name) for name in _CHANGEABLE)])
    )
    return with_annotations({"apiVersion": "v1", "kind": "Pod", **pod}, {SOURCE: API, CONTENT: content})


def is_mirror(pod: Pod) -> bool:
    """Whether a pod of the API server only shows a static one."""
    return annotation(pod, MIRROR) is not None


def is_static(pod: Pod) -> bool:
    """Whether a pod is shown by a mirror."""
    return source_name(owner_of(pod) or "") in ("file", "http")


def status_patch(uid: str, status: PodStatus) -> Json:
    """A strategic merge patch of a pod's status. The UID keeps it from another pod of the same name: 409 then."""
    change: Json = {name: status[name] for name in _STATUS if status.get(name) is not None}
    change |= {name: None for name in _CLEARED if not status.get(name)}
    if "podIPs" in change:
        change["podIPs"] = [{"$patch": "replace"}, *change["podIPs"]]
    return {"metadata": {"uid": uid}, "status": change}


def mirror_of(pod: Pod, node: str, node_uid: str) -> Pod:
    """The mirror of a static pod, as NodeRestriction asks for it: the node controls it; it has no service account."""
    metadata, spec = pod["metadata"], pod["spec"]
    own = metadata.get("annotations") or {}
    kept = {name: value for name, value in own.items() if not name.startswith("protokube.io/")}
    owner = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid, "controller": True}
    namespace, name = key_of(pod)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": metadata.get("labels") or {},
            "annotations": {**kept, MIRROR: own.get(HASH, uid_of(pod))},
            "ownerReferences": [owner],
        },
        "spec": {**spec, "nodeName": node},
    }


def mirror_changes(
    static: Iterable[Pod], mirrors: Iterable[Pod], *, settled: bool
) -> tuple[list[Pod], list[tuple[Pod, Pod]], list[Pod]]:
    """Mirrors to create (their static pods), those that stand (static pod, mirror), and those to delete.

    A mirror of another content goes first, and is made when it is gone. One without a static pod goes only when it is
    `settled` which static pods there are.
    """
    there: Mapping[tuple[str, str], Pod] = {key_of(one): one for one in mirrors}
    create, stand, delete = [], [], []
    shown = set()
    for pod in static:
        shown.add(key_of(pod))
        mirror = there.get(key_of(pod))
        if mirror is None:
            create.append(pod)
        elif annotation(mirror, MIRROR) == (annotation(pod, HASH) or uid_of(pod)) and not is_deleting(mirror):
            stand.append((pod, mirror))
        else:
            delete.append(mirror)
    if settled:
        delete += [one for key, one in there.items() if key not in shown]
    return create, stand, delete
