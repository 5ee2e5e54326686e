"""Asks the API server for what pods refer to: secrets, config maps, and tokens of service accounts.

While it can't be reached, what was had last is used: a container that crashed starts again. It is kept in memory
alone here; what a container had is kept beside its volumes (see `given`). No secret lies on a disk.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from protokube.agent.clock import wall_time
from protokube.agent.core.expand import environment
from protokube.agent.core.model import Container, Json, Pod, Spec, spec_of
from protokube.agent.core.pods import key_of, uid_of
from protokube.agent.core.references import (
    MissingError,
    Reference,
    TokenWanted,
    files_of,
    given_env,
    mounted,
    references,
    tokens,
)
from protokube.agent.http.kube import KubeClient, object_path
from protokube.agent.ports import Resolved, UnreachableError, UnresolvedError
from protokube.errors import ProviderError
from protokube.kubeapi.http import KubeError

_RENEW = 0.8
"""The part of a token's life after which another one is asked for, as in kubelet."""
_LATER = (401, 408, 429)
"""Who asked isn't known, as with credentials that expired meanwhile; it took too long; it was too much."""
_MOST = 1000
"""Objects and tokens that are kept."""


class References:
    """What one node's pods refer to."""

    def __init__(self, client: KubeClient, wall: Callable[[], float] = wall_time) -> None:
        self._client = client
        self._wall = wall
        self._objects: dict[tuple[str, Reference], Json] = {}
        self._tokens: dict[tuple[str, TokenWanted], tuple[str, float, float]] = {}

    async def resolve(self, pod: Pod, spec: Spec, container: Container) -> Resolved:
        """What a container refers to. Raises UnresolvedError."""
        namespace, _ = key_of(pod)
        try:
            found = {one: await self._object(namespace, one) for one in sorted(references(spec, container))}
            held = {one: await self._token(pod, one) for one in tokens(spec, container)}
            files = {one.name: files_of(one, pod, found, held, spec) for one in mounted(spec, container)}
            return Resolved(given_env(container, found), files)
        except MissingError as error:
            raise UnresolvedError(str(error)) from error
        except ProviderError as error:
            raise (UnreachableError if _is_away(error) else UnresolvedError)(str(error)) from error

    async def filled(self, pod: Pod) -> Pod:
        """The pod with plain values for its variables, for a provider that can't ask. Raises UnresolvedError."""
        spec = spec_of(pod)
        made = dict(pod["spec"])
        for field, containers in (("containers", spec.containers), ("initContainers", spec.init_containers)):
            if containers:
                made[field] = [
                    await self._filled(pod, spec, *pair) for pair in zip(containers, pod["spec"][field], strict=True)
                ]
        return {**pod, "spec": made}

    async def _filled(self, pod: Pod, spec: Spec, container: Container, plain: Json) -> Json:
        if not container.env_from and all(one.value_from is None for one in container.env):
            return plain
        bare = {**plain, "volumeMounts": []}
        resolved = await self.resolve(pod, spec, spec_of({"spec": {"containers": [bare]}}).containers[0])
        env = environment(pod, container, "", resolved.given)
        literal = [{"name": name, "value": value.replace("$", "$$")} for name, value in env]
        return {name: value for name, value in plain.items() if name != "envFrom"} | {"env": literal}

    async def _object(self, namespace: str, asked: Reference) -> Json | None:
        key = (namespace, asked)
        try:
            found = await self._client.get(object_path(asked.kind, namespace, asked.name))
        except KubeError as error:
            if error.status == 403:  # the node authorizer answers so for what isn't there, too
                raise
            return self._known(key, error)
        except ProviderError as error:
            return self._known(key, error)
        self._objects.pop(key, None)
        if found is not None:
            self._objects[key] = found
            _trim(self._objects)
        return found

    def _known(self, key: tuple[str, Reference], error: ProviderError) -> Json:
        if key not in self._objects:
            raise error
        return self._objects[key]

    async def _token(self, pod: Pod, asked: TokenWanted) -> str:
        key, now = (uid_of(pod), asked), self._wall()
        known = self._tokens.get(key)
        if known is not None and now < known[1]:
            return known[0]
        namespace, name = key_of(pod)
        bound = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid_of(pod)}
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [asked.audience] if asked.audience else [],
                "expirationSeconds": asked.seconds,
                "boundObjectRef": bound,
            },
        }
        try:
            said = await self._client.create(object_path("serviceaccounts", namespace, asked.account, "token"), body)
            token = str(said["status"]["token"])
            end = datetime.fromisoformat(said["status"]["expirationTimestamp"]).astimezone(UTC).timestamp()
        except (KeyError, TypeError, ValueError) as error:
            raise ProviderError(f"the answer to a TokenRequest has no token: {error!r}") from error
        except ProviderError:
            if known is not None and now < known[2]:
                return known[0]
            raise
        self._tokens.pop(key, None)
        self._tokens[key] = (token, now + (end - now) * _RENEW, end)
        _trim(self._tokens)
        return token


def _is_away(error: ProviderError) -> bool:
    """Whether the API server couldn't be asked, or couldn't answer now; else it has refused."""
    return not isinstance(error, KubeError) or error.status >= 500 or error.status in _LATER


def _trim(kept: dict[tuple[str, Reference], Json] | dict[tuple[str, TokenWanted], tuple[str, float, float]]) -> None:
    while len(kept) > _MOST:
        del kept[next(iter(kept))]  # type: ignore[arg-type]
