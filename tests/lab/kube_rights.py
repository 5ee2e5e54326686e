"""What a node's own credentials allow: the node authorizer and the admission plugin NodeRestriction."""

from __future__ import annotations

from typing import Any

from tests.lab.kube_store import ApiError, Json, Store

_LABELS = ("kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch")
_PREFIXES = ("node.kubernetes.io/", "kubelet.kubernetes.io/")


def check(store: Store, node: str, verb: str, where: tuple[str, str, str, str], body: Json) -> None:
    """Raise ApiError 403 for what a node may not do. `where`: plural, namespace, name, part."""
    plural, namespace, name, part = where
    if plural == "nodes":
        if verb in ("POST", "PATCH", "PUT") and (name or (body.get("metadata") or {}).get("name")) != node:
            raise _forbidden(f"node {node} can't change another node")
        if verb == "DELETE":
            raise _forbidden("nodes can't delete themselves")
        _labels(body)
    elif plural == "pods":
        _pods(store, node, verb, where, body)
    elif plural == "leases":
        asked = name or (body.get("metadata") or {}).get("name")
        if namespace != "kube-node-lease" or asked != node:
            raise _forbidden(f"node {node} can only use its own lease")
    elif plural in ("secrets", "configmaps"):
        mine = store.list("pods", namespace, lambda pod: pod["spec"].get("nodeName") == node)
        if verb != "GET" or not name or not any(_mentions(pod["spec"], name) for pod in mine):
            raise _forbidden(f"no relationship found between node {node!r} and {plural} {name!r}")
    elif plural == "serviceaccounts":
        if part != "token":
            raise _forbidden("nodes only ask for tokens")
    elif plural == "events":
        if verb not in ("POST", "PATCH", "PUT"):
            raise _forbidden("nodes only write events")
    elif plural != "subjectaccessreviews":
        raise _forbidden(f"nodes have no business with {plural}")


def _pods(store: Store, node: str, verb: str, where: tuple[str, str, str, str], body: Json) -> None:
    _, namespace, name, part = where
    if verb == "GET":
        return
    if verb == "POST":
        metadata, spec = body.get("metadata") or {}, body.get("spec") or {}
        if "kubernetes.io/config.mirror" not in (metadata.get("annotations") or {}):
            raise _forbidden("nodes only make mirror pods")
        if spec.get("nodeName") != node or spec.get("serviceAccountName"):
            raise _forbidden("a mirror pod is the node's own, without a service account")
        uid = store.get(("nodes", "", node))["metadata"]["uid"]
        owners = [
            (one["kind"], one["name"], one["uid"], one.get("controller")) for one in metadata["ownerReferences"]
        ]
        if owners != [("Node", node, uid, True)]:
            raise _forbidden("a mirror pod's owner is its node")
        return
    found = store.get(("pods", namespace, name))
    if found["spec"].get("nodeName") != node:
        raise _forbidden(f"pod {name} isn't of node {node}")
    if verb == "PATCH" and part != "status":
        raise _forbidden("nodes only change statuses")


def _labels(body: Json) -> None:
    for label in (body.get("metadata") or {}).get("labels") or {}:
        prefix = label.partition("/")[0] if "/" in label else ""
        ruled = prefix.endswith(("kubernetes.io", "k8s.io"))
        if ruled and label not in _LABELS and not label.startswith(_PREFIXES):
            raise _forbidden(f"is not allowed to set the following labels: {label}")


def _mentions(value: Any, name: str) -> bool:
    if isinstance(value, dict):
        return any(
            (isinstance(one, str) and one == name and key in ("name", "secretName")) or _mentions(one, name)
            for key, one in value.items()
        )
    return isinstance(value, list) and any(_mentions(one, name) for one in value)


def _forbidden(message: str) -> ApiError:
    return ApiError(403, "Forbidden", message)
