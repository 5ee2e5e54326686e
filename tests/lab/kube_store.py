"""An API server's objects: versions, UIDs, graceful deletion, and what watches see. Strict where the real one is."""

from __future__ import annotations

import asyncio
import copy
import secrets
import time
import uuid
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tests.lab.kube_merge import merge, strategic

Json = dict[str, Any]
Key = tuple[str, str, str]
CLUSTER_WIDE = ("namespaces", "nodes")
PLURALS = (*CLUSTER_WIDE, "pods", "events", "secrets", "configmaps", "serviceaccounts", "leases")
TERMINAL = ("Succeeded", "Failed")


class ApiError(Exception):
    """An answer that refuses: HTTP's status, and the API's own word."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status, self.reason, self.message = status, reason, message
        super().__init__(message)

    def body(self) -> Json:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": self.status,
            "reason": self.reason,
            "message": self.message,
        }


class Change(Struct, frozen=True):
    """One change: the object before and after it; after None it is as it was deleted."""

    version: int
    plural: str
    before: Json | None
    after: Json | None
    deleted: Json | None = None


class Store:
    """The objects of one cluster. `compact` forgets what watches could see."""

    def __init__(self) -> None:
        self.version = 1
        self.objects: dict[Key, Json] = {}
        self.history: list[Change] = []
        self.floor = 0
        self.changed = asyncio.Condition()
        for name in ("default", "kube-system", "kube-node-lease"):
            self._put(("namespaces", "", name), self._new({"metadata": {"name": name}}))

    def get(self, key: Key) -> Json:
        """An object. Raises ApiError."""
        found = self.objects.get(key)
        if found is None:
            raise ApiError(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        return found

    def list(self, plural: str, namespace: str, matches: Callable[[Json], bool]) -> list[Json]:
        """The objects of a kind, of all namespaces where none is given."""
        return [
            one
            for (kind, space, _), one in self.objects.items()
            if kind == plural and namespace in ("", space) and matches(one)
        ]

    def create(self, plural: str, namespace: str, body: Json) -> Json:
        """Make an object. Raises ApiError."""
        made = self._new(body)
        metadata = made["metadata"]
        if namespace:
            self.get(("namespaces", "", namespace))
            metadata["namespace"] = namespace
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + secrets.token_hex(3)
        key = (plural, namespace, metadata.get("name", ""))
        if not key[2]:
            raise ApiError(422, "Invalid", "metadata.name: Required value")
        if key in self.objects:
            raise ApiError(409, "AlreadyExists", f'{plural} "{key[2]}" already exists')
        if plural == "pods":
            made["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
            made["spec"].setdefault("terminationGracePeriodSeconds", 30)
        return self._put(key, made)

    def replace(self, key: Key, body: Json) -> Json:
        """Put an object in its place; with a version, only in that one's. Raises ApiError."""
        found = self.get(key)
        _same(found, body)
        made = copy.deepcopy(body)
        made["metadata"] = {**found["metadata"], **made["metadata"]}
        return self._put(key, made)

    def patch(self, key: Key, change: Json, kind: str, part: str) -> Json:
        """Change an object; `part` is `status` or nothing. Nothing changes when it is the same. Raises ApiError."""
        found = self.get(key)
        _same(found, change)
        patched = (strategic if "strategic" in kind else merge)(found, change)
        made = copy.deepcopy(patched if not part else {**found, "status": patched.get("status", {})})
        if not part and key[0] in ("pods", "nodes"):
            made["status"] = found.get("status", {})
        if made == found:
            return found
        metadata = made["metadata"]
        ending = metadata.get("deletionTimestamp") and not metadata.get("deletionGracePeriodSeconds")
        if ending and not metadata.get("finalizers"):
            return self._remove(key)
        return self._put(key, made)

    def delete(self, key: Key, options: Json) -> Json:
        """Delete an object, a bound pod gracefully. Raises ApiError."""
        found = self.get(key)
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted is not None and wanted != found["metadata"]["uid"]:
            raise ApiError(409, "Conflict", f"the UID in the precondition ({wanted}) isn't the object's")
        grace = self._grace(key, found, options)
        finalizers = found["metadata"].get("finalizers")
        if not grace and not finalizers:
            return self._remove(key)
        before = found["metadata"].get("deletionGracePeriodSeconds")
        if found["metadata"].get("deletionTimestamp") and (before is None or before <= grace):
            return found
        made = copy.deepcopy(found)
        made["metadata"] |= {"deletionTimestamp": _now(grace), "deletionGracePeriodSeconds": grace}
        return self._put(key, made)

    def compact(self) -> None:
        """Forget every change: a watch from an earlier version gets 410."""
        self.floor = self.version
        self.history.clear()

    async def tell(self) -> None:
        """Wake the watches."""
        async with self.changed:
            self.changed.notify_all()

    def _grace(self, key: Key, found: Json, options: Json) -> int:
        if key[0] != "pods" or not found["spec"].get("nodeName") or found["status"]["phase"] in TERMINAL:
            return 0
        given = options.get("gracePeriodSeconds")
        return int(found["spec"]["terminationGracePeriodSeconds"] if given is None else given)

    def _new(self, body: Json) -> Json:
        made = copy.deepcopy(body)
        metadata = made.setdefault("metadata", {})
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now(0)}
        return made

    def _put(self, key: Key, made: Json) -> Json:
        self.version += 1
        made["metadata"]["resourceVersion"] = str(self.version)
        self.history.append(Change(self.version, key[0], self.objects.get(key), made))
        self.objects[key] = made
        return made

    def _remove(self, key: Key) -> Json:
        self.version += 1
        before = self.objects.pop(key)
        last = copy.deepcopy(before)
        last["metadata"]["resourceVersion"] = str(self.version)
        self.history.append(Change(self.version, key[0], before, None, last))
        return last


def _same(found: Json, given: Json) -> None:
    """What is given must not claim to be another object, or another version of it."""
    for field in ("uid", "resourceVersion"):
        wanted = (given.get("metadata") or {}).get(field)
        if wanted is not None and wanted != found["metadata"][field]:
            raise ApiError(409, "Conflict", f"metadata.{field}: the object is another one")


def _now(later: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + later))
