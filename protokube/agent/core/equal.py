"""Whether a running pod is the wanted one: not at all different, different in what may change, or another one."""

from __future__ import annotations

from enum import Enum
from typing import Any

from protokube.agent.core.model import Pod
from protokube.agent.core.pods import CONTENT, annotation, canonical

_IN_PLACE = ("containers", "initContainers", "activeDeadlineSeconds", "tolerations")
_OURS = ("protokube.io/", "kubernetes.io/config.")


class Difference(Enum):
    """How a wanted pod differs from the running one of the same UID."""

    NONE = "none"
    UPDATE = "update"
    REPLACE = "replace"


def difference(wanted: Pod, running: Pod) -> Difference:
    """Compare a wanted pod with the running one.

    A pod of a file or URL bears a digest of all its content: an equal one is no difference, and one that changes
    beyond the fields that Kubernetes lets change is another pod. For a pod of the API server only those fields count.
    """
    ours, theirs = annotation(wanted, CONTENT), annotation(running, CONTENT)
    if ours is not None and ours == theirs:
        return Difference.NONE
    same = _comparable(wanted) == _comparable(running)
    if ours is None:
        return Difference.NONE if same else Difference.UPDATE
    rest = _rest(wanted) == _rest(running)
    return Difference.UPDATE if rest else Difference.REPLACE


def _comparable(pod: Pod) -> bytes:
    spec = pod.get("spec") or {}
    metadata = pod["metadata"]
    kept = {name: _ordered(spec.get(name)) for name in _IN_PLACE}
    return canonical([kept, metadata.get("labels") or {}, _annotations(pod)])


def _rest(pod: Pod) -> bytes:
    spec = pod.get("spec") or {}
    return canonical({name: value for name, value in spec.items() if name not in _IN_PLACE})


def _annotations(pod: Pod) -> dict[str, Any]:
    own = pod["metadata"].get("annotations") or {}
    return {name: value for name, value in own.items() if not name.startswith(_OURS)}


def _ordered(value: Any) -> Any:
    """The containers with their variables in one order: it carries no meaning but for `$(NAME)`."""
    if not isinstance(value, list):
        return value or None
    return [
        {**one, "env": sorted(one["env"], key=lambda item: str(item.get("name")))}
        if isinstance(one, dict) and isinstance(one.get("env"), list)
        else one
        for one in value
    ] or None
