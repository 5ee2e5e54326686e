"""Which step from one version to another is legal (kubernetes.io, "Version Skew Policy")."""

from __future__ import annotations

import re

from protokube.core.component.schema import Version, spell
from protokube.core.controlplane.model import Health
from protokube.core.controlplane.names import API_SERVER
from protokube.core.static_pod import image_version, manifest_image

_GIT_VERSION = re.compile(r'"gitVersion":\s*"v([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})')


def pod_version(pod: str | None) -> Version | None:
    """The version of a pod's image; None when there is no pod, or its image's tag names none."""
    image = manifest_image(pod) if pod else None
    return image_version(image) if image else None


def told_version(answer: Health) -> Version | None:
    """The version that an API server tells at /version; None when the answer is no such one."""
    found = _GIT_VERSION.search(answer.text) if answer.status == 200 else None
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def ahead_problem(
    component: str, version: Version, server: Version | None, subject: str = "the API server"
) -> str | None:
    """Why a component must not run a version beside the API server that really runs; None when it may.

    After a rollback that is another one than the configured one. `subject`: which API server it is.
    """
    if server is None or version[:2] <= server[:2]:
        return None
    return f"{component} {spell(version)} would be newer than {subject}, which is {spell(server)}"


def lag_problem(version: Version, component: str, present: Version) -> str | None:
    """Why an API server must not get a version beside a component that is older; None when it may."""
    if present[0] == version[0] and present[1] >= version[1] - 1:
        return None
    lags = f"{component}, which is {spell(present)}, is 1.{version[1] - 1}"
    return f"{API_SERVER} goes to {spell(version)} when {lags}; run that first"


def apart_problem(component: str, version: Version, other: Version, subject: str) -> str | None:
    """Why an API server, or what goes with it, must not be more than one minor version newer than another one."""
    if other[0] == version[0] and other[1] >= version[1] - 1:
        return None
    here = f"{component} {spell(version)} would be more than one minor version newer"
    return f"{here} than {subject}, which is {spell(other)}"


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
