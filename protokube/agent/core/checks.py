"""Every fault of a pod's spec at once: what can't be read, and what no pod without an API server may ask for."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Any

import msgspec

from protokube.agent.core.model import Container, Handler, Json, Spec, Volume

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_UNUSABLE = re.compile(r"[\0\ud800-\udfff]")
_API_ONLY = ("serviceAccountName", "serviceAccount", "ephemeralContainers", "resourceClaims")
_NOT_HERE = ("resourceClaims",)
_FILLED = ("secret", "configMap", "projected", "downwardAPI")
"""Volumes whose files an API server has."""
_API_VOLUMES = (*_FILLED, "persistentVolumeClaim", "csi", "ephemeral")
_KINDS = ("hostPath", "emptyDir")
_PROJECTED = ("secret", "configMap", "downwardAPI", "serviceAccountToken")
_HOST_PATHS = ("", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice")


def faults_of_spec(spec: Json, *, api: bool = False) -> Iterator[str]:
    """Judge a spec; each text begins with the field's path. `api`: what only an API server can give is there."""
    for field in _NOT_HERE if api else _API_ONLY:
        if spec.get(field):
            why = "it doesn't run here" if api else "only an API server can give it; a static pod must do without"
            yield f"spec.{field}: {why}"
    yield from (
        f"{place}: text without zero bytes and lone surrogates was expected" for place in _unusable(spec, "spec")
    )
    volumes = yield from _volumes(spec.get("volumes", []), api=api)
    names: set[str] = set()
    for field in ("initContainers", "containers"):
        listed = spec.get(field, [])
        if not isinstance(listed, list) or (field == "containers" and not listed):
            yield f"spec.{field}: a list of containers was expected"
            continue
        for number, one in enumerate(listed):
            yield from _container(one, f"spec.{field}[{number}]", volumes, names, api=api)
    rest = {key: value for key, value in spec.items() if key not in ("volumes", "containers", "initContainers")}
    try:
        checked = msgspec.convert({**rest, "containers": []}, Spec)
    except msgspec.ValidationError as error:
        yield f"spec: {error}"
        return
    if checked.restart_policy not in ("Always", "OnFailure", "Never"):
        yield f"spec.restartPolicy: Always, OnFailure or Never was expected, got {checked.restart_policy!r}"
    if checked.termination_grace_period_seconds < 0:
        yield "spec.terminationGracePeriodSeconds: seconds were expected, got less than 0"


def _unusable(value: Any, place: str) -> Iterator[str]:
    """Where text is that no system call takes: with a zero byte, or with what UTF-8 can't hold."""
    if isinstance(value, str):
        if _UNUSABLE.search(value):
            yield place
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _unusable(key, f"a key of {place}")
            yield from _unusable(one, f"{place}.{key}")
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _unusable(one, f"{place}[{number}]")


def _volumes(listed: Any, *, api: bool) -> Generator[str, None, set[str]]:
    names: set[str] = set()
    if not isinstance(listed, list):
        yield "spec.volumes: a list was expected"
        return names
    for number, one in enumerate(listed):
        place = f"spec.volumes[{number}]"
        if isinstance(one, dict):
            known = (*_KINDS, *_FILLED) if api else _KINDS
            asked = [] if api else [kind for kind in _API_VOLUMES if kind in one]
            other = [kind for kind in one if kind not in (*known, *asked, "name")]
            yield from _sources(one, place)
            yield from (f"{place}.{kind}: only an API server can give it; use hostPath or emptyDir" for kind in asked)
            yield from (f"{place}.{kind}: such a volume doesn't run here; use hostPath or emptyDir" for kind in other)
            if asked or other:
                names.add(str(one.get("name")))
                continue
        try:
            volume = msgspec.convert(one, Volume)
        except msgspec.ValidationError as error:
            yield f"{place}: {error}"
            continue
        if not _LABEL.fullmatch(volume.name) or volume.name in names:
            yield f"{place}.name: a DNS label of its own was expected, got {volume.name!r}"
        names.add(volume.name)
        path = volume.host_path
        if path and (not path.path.startswith("/") or ".." in path.path.split("/")):
            yield f"{place}.hostPath.path: an absolute path without .. was expected, got {path.path!r}"
        if path and path.type not in _HOST_PATHS:
            yield f"{place}.hostPath.type: one of {', '.join(_HOST_PATHS[1:])} was expected, got {path.type!r}"
    return names


def _sources(volume: Json, place: str) -> Iterator[str]:
    """Faults of what a volume is filled from."""
    sources = (volume.get("projected") or {}).get("sources") or ()
    for number, source in enumerate(sources):
        unknown = [kind for kind in source if kind not in _PROJECTED]
        yield from (f"{place}.projected.sources[{number}].{kind}: it isn't known here" for kind in unknown)
    for one in (volume, *sources):
        items = (one.get("downwardAPI") or {}).get("items") or ()
        if any(item.get("resourceFieldRef") for item in items):
            yield f"{place}: resourceFieldRef isn't known here"


def _container(one: Any, place: str, volumes: set[str], names: set[str], *, api: bool) -> Iterator[str]:
    try:
        container = msgspec.convert(one, Container)
    except msgspec.ValidationError as error:
        yield f"{place}: {error}"
        return
    if not _LABEL.fullmatch(container.name) or container.name in names:
        yield f"{place}.name: a DNS label of its own was expected, got {container.name!r}"
    names.add(container.name)
    if not container.image:
        yield f"{place}.image: it is missing"
    if container.restart_policy not in (None, "Always") or (container.sidecar and ".containers" in place):
        yield f"{place}.restartPolicy: only an init container may have one, and only Always"
    if container.env_from and not api:
        yield f"{place}.envFrom: only an API server can give it; use env"
    for number, variable in enumerate(container.env):
        given = variable.value_from
        if not api and given and (given.secret_key_ref is not None or given.config_map_key_ref is not None):
            yield f"{place}.env[{number}].valueFrom: only an API server can give it; use value"
        elif given and given.resource_field_ref is not None:
            yield f"{place}.env[{number}].valueFrom.resourceFieldRef: it isn't known here; use value"
    for number, mount in enumerate(container.volume_mounts):
        if mount.name not in volumes:
            yield f"{place}.volumeMounts[{number}]: there is no volume {mount.name!r}"
        if mount.sub_path_expr:
            yield f"{place}.volumeMounts[{number}].subPathExpr: it isn't known here; use subPath"
        for path in (mount.mount_path, "/" + mount.sub_path):
            if not path.startswith("/") or ".." in path.split("/"):
                yield f"{place}.volumeMounts[{number}]: a path without .. was expected, got {path!r}"
    hooks = container.lifecycle
    for field, handler in (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
        ("lifecycle.preStop", hooks.pre_stop if hooks else None),
        ("lifecycle.postStart", hooks.post_start if hooks else None),
    ):
        if handler is not None:
            yield from _handler(handler, f"{place}.{field}", container)


def _handler(handler: Handler, place: str, container: Container) -> Iterator[str]:
    if handler.grpc is not None:
        yield f"{place}.grpc: it doesn't run here; use httpGet, tcpSocket or exec"
        return
    if place.endswith("postStart"):
        yield f"{place}: it doesn't run here; use an init container"
        return
    given = [one for one in (handler.exec, handler.http_get, handler.tcp_socket) if one is not None]
    if len(given) != 1:
        yield f"{place}: exactly one of httpGet, tcpSocket and exec was expected, got {len(given)}"
    if handler.tcp_socket is not None and place.endswith("preStop"):
        yield f"{place}.tcpSocket: it doesn't run here; use exec or httpGet"
    for one in (handler.http_get, handler.tcp_socket):
        if one and isinstance(one.port, str) and one.port not in [port.name for port in container.ports]:
            yield f"{place}.port: there is no port {one.port!r} in this container"
