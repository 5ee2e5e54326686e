"""Pods as others may see them: a provider that can't ask for secrets got their values in the pod itself."""

from __future__ import annotations

from protokube.agent.core.model import Json, Pod
from protokube.agent.core.pods import API, owner_of


def unfilled(running: Pod, wanted: Pod | None) -> Pod:
    """A pod that runs, with the spec that its API server has.

    Where that one isn't known the variables have names alone: nothing tells then which values are secret.
    """
    if owner_of(running) != API:
        return running
    if wanted is not None:
        return {**running, "spec": wanted["spec"]}
    spec = running.get("spec") or {}
    bare = {
        field: [_bare(one) for one in spec[field]] for field in ("containers", "initContainers") if spec.get(field)
    }
    return {**running, "spec": {**spec, **bare}}


def _bare(container: Json) -> Json:
    names = [{"name": one["name"]} for one in container.get("env") or ()]
    return {**container, "env": names} if names else container
