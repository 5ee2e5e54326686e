"""Which step from one version to another is legal (kubernetes.io, "Version Skew Policy")."""

from __future__ import annotations

from protokube.core.component.schema import Version, spell
from protokube.core.static_pod import image_version, manifest_image


def pod_version(pod: str | None) -> Version | None:
    """The version of a pod's image; None when there is no pod, or its image's tag names none."""
    image = manifest_image(pod) if pod else None
    return image_version(image) if image else None


def ahead_problem(component: str, version: Version, server: Version | None) -> str | None:
    """Why a component must not run a version beside the API server that really runs; None when it may.

    After a rollback that is another one than the configured one.
    """
    if server is None or version[:2] <= server[:2]:
        return None
    return f"{component} {spell(version)} would be newer than the API server, which is {spell(server)}"


def skew_problem(component: str, version: Version, present: str | None) -> str | None:
    """Why a component must not go from the pod that is `present` to a version; None when it may, or none tells."""
    before = pod_version(present)
    if before is None or before[:2] == version[:2]:
        return None
    step = f"{component} is {spell(before)}, {spell(version)} is configured"
    if version[:2] < before[:2]:
        return f"{step}: it never goes back to an older minor version, since its objects may not be readable then"
    if version[:2] != (before[0], before[1] + 1):
        return f"{step}: one minor version at a time; run 1.{before[1] + 1} first"
    return None
