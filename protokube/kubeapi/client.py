"""Reads and writes objects of the API. What a kind is called in a path is asked from the API server itself, so that
kinds that are defined in the cluster are known as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from msgspec import MsgspecError, Struct
from msgspec.json import decode

from protokube.errors import ProviderError
from protokube.kubeapi.http import APPLY, JSON, MERGE, KubeError, KubeHttp, TooLongError

MANAGER = "protokube"
"""The owner of the fields that it applies, as the API server keeps it in managedFields."""

_PAGE = 500
_WATCH = 300
"""Seconds after which a watch ends, and is begun again."""

Object = Mapping[str, Any]


class Kind(Struct, frozen=True):
    """A kind of object: the path of its group's version, its name in paths, and whether it lives in a namespace."""

    base: str
    plural: str
    namespaced: bool


class KubeApi:
    """The API at the other end of `http`."""

    def __init__(self, http: KubeHttp) -> None:
        self._http = http
        self._kinds: dict[tuple[str, str], Kind] = {}

    def not_ready(self) -> str | None:
        """Why the API server isn't ready; None when it is."""
        try:
            status, text = self._http.text("/readyz")
        except ProviderError as error:
            return str(error)
        if status == 200:
            return None
        failing = [line for line in text.splitlines() if line.startswith("[-]")]
        return f"/readyz answers {status}: {', '.join(failing) or text.strip()[:200]}"

    def kind(self, api_version: str, kind: str) -> Kind:
        """A kind, by what the API server says. Raises KubeError with reason `NoSuchKind` when it has none."""
        known = self._kinds.get((api_version, kind))
        if known is None:
            self._kinds |= {(api_version, one): found for one, found in self._discovered(api_version)}
            known = self._kinds.get((api_version, kind))
        if known is None:
            raise KubeError(404, "NoSuchKind", f"{api_version} {kind}: {self._http.url} has no such kind")
        return known

    def _discovered(self, api_version: str) -> Iterator[tuple[str, Kind]]:
        base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        try:
            answer = _mapping(self._http.request("GET", base))
        except KubeError as error:
            if error.status == 404:
                return
            raise
        for one in answer.get("resources") or ():
            if "/" not in one["name"]:  # the others are parts of objects, such as pods/log
                yield one["kind"], Kind(base, one["name"], bool(one["namespaced"]))

    def path(self, api_version: str, kind: str, namespace: str = "", name: str = "") -> str:
        """The path of an object, or of all of a kind; in all namespaces where none is given."""
        found = self.kind(api_version, kind)
        folder = f"/namespaces/{quote(namespace, safe='')}" if namespace and found.namespaced else ""
        return f"{found.base}{folder}/{found.plural}" + (f"/{quote(name, safe='')}" if name else "")

    def get(self, path: str) -> Object | None:
        """An object; None when there is none."""
        try:
            return _mapping(self._http.request("GET", path))
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def list(self, path: str, **query: str) -> Sequence[Object]:
        """All objects below a path."""
        return [one for page in self.pages(path, **query) for one in page.get("items") or ()]

    def pages(self, path: str, **query: str) -> Iterator[Object]:
        """All objects below a path, page by page, each with the version at which a watch goes on.

        A page that is longer than any answer that is read is asked for again with half as many objects.
        """
        more, size = "", _PAGE
        while True:
            asked = urlencode({**query, "limit": size, **({"continue": more} if more else {})})
            try:
                page = _mapping(self._http.request("GET", f"{path}?{asked}"))
            except TooLongError:
                if size == 1:
                    raise
                size //= 2
                continue
            yield page
            more = (page.get("metadata") or {}).get("continue") or ""
            if not more:
                return

    def end(self) -> None:
        """End what is under way, such as a watch in another thread. This client asks for nothing afterwards."""
        self._http.end()

    def watch(self, path: str, **query: str) -> Iterator[Object]:
        """Changes below a path, as they come, until the API server ends the watch."""
        asked = urlencode({**query, "watch": "true", "timeoutSeconds": _WATCH})
        for line in self._http.lines(f"{path}?{asked}", _WATCH + 30.0):
            try:
                event = decode(line)
            except MsgspecError as error:
                raise ProviderError(f"the watch of {path}: no JSON: {error}") from error
            yield _mapping(event)

    def create(self, path: str, manifest: Object) -> Object:
        """Make an object. Raises KubeError with reason AlreadyExists when it is there."""
        return _mapping(self._http.request("POST", path, manifest))

    def replace(self, path: str, manifest: Object) -> Object:
        """Put an object that was read and changed in its place. Raises KubeError with reason Conflict when another
        client was faster."""
        return _mapping(self._http.request("PUT", path, manifest, JSON))

    def merge(self, path: str, change: Object) -> Object:
        """Change some fields of an object."""
        return _mapping(self._http.request("PATCH", path, change, MERGE))

    def apply(self, manifest: Object, owner: str = MANAGER, *, dry_run: bool = False) -> Object:
        """Let an object have the fields of the manifest, made if it is missing (server-side apply).

        Fields that another owner has set otherwise become ours. Fields that the manifest had earlier, and has no
        more, are removed. All others are left alone. A dry run changes nothing, and returns what would be.
        """
        metadata = manifest["metadata"]
        path = self.path(manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"])
        asked = urlencode({"fieldManager": owner, "force": "true", **({"dryRun": "All"} if dry_run else {})})
        return _mapping(self._http.request("PATCH", f"{path}?{asked}", manifest, APPLY))

    def delete(self, path: str, *, uid: str | None = None) -> bool:
        """Delete an object, with `uid` only this very one. False when there was none."""
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        body = options if uid is None else {**options, "preconditions": {"uid": uid}}
        try:
            self._http.request("DELETE", path, body)
        except KubeError as error:
            if error.status == 404:
                return False
            raise
        return True


def _mapping(answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise ProviderError(f"the API server's answer is no object: {str(answer)[:200]}")
    return answer
