"""A pod of kubeleet: the bytes that stand in Redis, and the pod that runs for them.

The exact bytes received are a pod's identity. Redis compares bytes, and so nothing is ever written in another form.
"""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
import uuid
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from protokube.agent.core.model import Pod
from protokube.agent.core.pods import CONTENT, SOURCE, annotation, digest, is_deleting, owner_of, phase_of
from protokube.core.model import Fault
from protokube.kubeleet.core.foreign import read_foreign

RAW = "protokube.io/kubeleet"
"""The annotation that keeps a pod's bytes with what runs."""
OWNER = "redis"
GRACE = 5
"""Seconds that a container has for its end: a worker that is cut off must have ended it before others start it."""
MOST_REPLICAS = 1000
MOST_DEAD = 10_000
"""Dead letters, and counts of failed starts, that are kept: as many as there are pods at most."""
LONGEST_GARBAGE = 1000
"""Characters that a letter keeps of bytes that are no pod; a pod's are kept whole, for another try."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_STARTING = ("", "ContainerCreating", "PodInitializing", "Waiting")


class Wanted(Struct, frozen=True):
    """A service, or one of its pods; then `replica` is its ordinal, from 1."""

    name: str
    uuid: str
    image: str
    replica: int

    def encode(self) -> bytes:
        """Its bytes, in the original's order, without blanks."""
        return msgspec.json.encode(self)


def pods_of(service: Wanted) -> list[bytes]:
    """The bytes of the service's pods."""
    return [Wanted(service.name, service.uuid, service.image, n).encode() for n in range(1, service.replica + 1)]


def read_pod(raw: bytes) -> Wanted | Fault:
    """Read a pod's bytes. Unknown keys are left alone: they belong to the identity."""
    pod = read_foreign(raw, Wanted, "pod")
    if isinstance(pod, Fault):
        return pod
    faults = _faults(pod)
    return faults[0] if faults else pod


def read_service(body: bytes, new_uuid: str) -> Wanted | tuple[Fault, ...]:
    """Read a request for a service; every fault names its field. `new_uuid` is for a request that brings none."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        return (Fault("body", f"JSON was expected: {error}"),)
    if not isinstance(given, dict):
        return (Fault("body", f"an object was expected, got {reprlib.repr(given)}"),)
    kinds: dict[str, type] = {"name": str, "image": str, "replica": int, "uuid": str}
    faults = [Fault(key, f"unknown; the fields are {', '.join(kinds)}") for key in given if key not in kinds]
    given = {"uuid": new_uuid, **given}
    for key, kind in kinds.items():
        if key not in given:
            faults.append(Fault(key, "it is missing"))
        elif not isinstance(given[key], kind) or isinstance(given[key], bool):
            faults.append(
                Fault(key, f"{'text' if kind is str else 'a number'} was expected, got {reprlib.repr(given[key])}")
            )
    if faults:
        return tuple(faults)
    service = Wanted(given["name"], given["uuid"], given["image"], given["replica"])
    return tuple(_faults(service)) or service


def _faults(one: Wanted) -> list[Fault]:
    faults = []
    if not _NAME.fullmatch(one.name):
        faults.append(Fault("name", f"a DNS label of at most 63 characters was expected, got {one.name!r}"))
    for key, text in (("uuid", one.uuid), ("image", one.image)):
        if not 0 < len(text) <= 512 or not text.isprintable():
            faults.append(Fault(key, f"1 to 512 printable characters were expected, got {text[:80]!r}"))
    if not 1 <= one.replica <= MOST_REPLICAS:
        faults.append(Fault("replica", f"1 to {MOST_REPLICAS} was expected, got {one.replica}"))
    return faults


def uid_of(raw: bytes) -> str:
    """The UID of the pod with these bytes."""
    return str(uuid.UUID(bytes=hashlib.sha1(uuid.NAMESPACE_OID.bytes + raw).digest()[:16], version=5))


def attempts_key(raw: bytes) -> str:
    """The field under which the pod's failed starts are counted."""
    return hashlib.sha256(raw).hexdigest()[:16]


def container_name(wanted: Wanted, raw: bytes) -> str:
    """The original's name of the container."""
    return f"{wanted.name}-{wanted.replica}-{hashlib.shake_256(raw).hexdigest(8)}"[-200:]


def agent_pod(raw: bytes) -> Pod | Fault:
    """The pod that the agent runs for these bytes."""
    wanted = read_pod(raw)
    if isinstance(wanted, Fault):
        return wanted
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": container_name(wanted, raw),
            "namespace": "kubeleet",
            "uid": uid_of(raw),
            "labels": {"orchestrator": "kubeleet"},
            "annotations": {SOURCE: OWNER, CONTENT: digest(raw), RAW: raw.decode()},
        },
        "spec": {
            "hostNetwork": True,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": GRACE,
            "containers": [{"name": "main", "image": wanted.image}],
        },
    }


def raw_of(pod: Pod) -> bytes | None:
    """The bytes that a running pod was made from, None when it isn't kubeleet's."""
    text = annotation(pod, RAW) if owner_of(pod) == OWNER else None
    return None if text is None else text.encode()


def kept(pods: Sequence[Pod]) -> list[bytes]:
    """The bytes of kubeleet's pods among those that a provider has, whatever they do now, but for those that end."""
    found = [raw_of(pod) for pod in pods if not is_deleting(pod)]
    return [raw for raw in found if raw is not None]


def exists(pod: Pod) -> bool:
    """Whether the pod's container was ever started."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    begun = any(kind in (one.get("state") or {}) for one in statuses for kind in ("running", "terminated"))
    return phase_of(pod) != "Failed" and (begun or phase_of(pod) in ("Running", "Succeeded"))


class Failure(Struct, frozen=True):
    """Why a pod didn't start. `final`: it never will."""

    reason: str
    final: bool = False


def failure(pod: Pod) -> Failure | None:
    """Why the pod's start has failed, None while it may still succeed."""
    status = pod.get("status") or {}
    if phase_of(pod) == "Failed":
        return Failure(str(status.get("message") or status.get("reason") or "it failed"), final=True)
    for one in status.get("containerStatuses") or []:
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason", "") not in _STARTING:
            return Failure(f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": "))
    return None
