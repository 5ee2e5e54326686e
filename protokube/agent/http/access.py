"""Who may ask this node: the API server is asked, as kubelet does (a SubjectAccessReview)."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from protokube.agent.clock import boot_time
from protokube.agent.http.kube import KubeClient

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_ALLOWED, _DENIED = 300.0, 30.0
"""Seconds that an answer is kept, as in kubelet."""
_MOST = 1000
_PARTS = {"stats": "stats", "metrics": "metrics", "logs": "log", "spec": "spec"}


class Caller(Struct, frozen=True):
    """Whom a certificate names."""

    user: str
    groups: tuple[str, ...]


def caller_of(certificate: Mapping[str, Any] | None) -> Caller | None:
    """The common name and the organizations of a certificate as ssl gives it; None for none."""
    names = [pair for part in (certificate or {}).get("subject") or () for pair in part]
    user = next((value for key, value in names if key == "commonName"), "")
    groups = tuple(value for key, value in names if key == "organizationName")
    return Caller(user, (*groups, "system:authenticated")) if user else None


def part_of(path: str) -> str:
    """The part of the node that a path belongs to, as kubelet names it."""
    return _PARTS.get(path.strip("/").partition("/")[0], "proxy")


class Access:
    """Answers for one node."""

    def __init__(self, client: KubeClient, node: str, clock: Callable[[], float] = boot_time) -> None:
        self._client = client
        self._node = node
        self._clock = clock
        self._kept: dict[tuple[Caller, str, str], tuple[bool, float]] = {}

    async def allows(self, caller: Caller, verb: str, part: str) -> bool:
        """Whether the caller may do that with the part of the node. Raises ProviderError."""
        key, now = (caller, verb, part), self._clock()
        known = self._kept.get(key)
        if known is not None and now < known[1]:
            return known[0]
        asked = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": part, "name": self._node}
        spec = {"user": caller.user, "groups": list(caller.groups), "resourceAttributes": asked}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        answer = await self._client.create(REVIEWS, review)
        allowed = bool((answer.get("status") or {}).get("allowed"))
        self._kept.pop(key, None)
        self._kept[key] = (allowed, now + (_ALLOWED if allowed else _DENIED))
        while len(self._kept) > _MOST:
            del self._kept[next(iter(self._kept))]
        return allowed


def peer_certificate(connection: object) -> Mapping[str, Any] | None:
    """What the client of a connection has shown; None without TLS, or without a certificate."""
    return connection.getpeercert() if isinstance(connection, ssl.SSLObject) else None
