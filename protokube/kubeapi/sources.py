"""The manifests of an addon channel: from a directory of this machine, or from an https URL.

    # channel.yaml
    addons:
      - {name: ingress, version: 1.2.3, manifest: ingress-1.2.3.yaml, sha256: …}

Manifests are named relative to channel.yaml. A directory may do without it: then every .yaml in it counts, and is
trusted as it stands. From a URL each manifest must have the hash that channel.yaml tells.
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

import yaml
from msgspec import MsgspecError
from msgspec.json import decode, encode

from protokube.core.model import MIB
from protokube.core.objects.model import ChannelSource, Manifest, key_of
from protokube.errors import ProviderError, explain

_CHANNEL = "channel.yaml"
_LONGEST = 16 * MIB
_LIMIT = 10.0
"""Seconds for one manifest from the web, and three times as many for a whole channel."""
_PIECE = 64 * 1024
Get = Callable[[str], bytes]


def read_manifests(source: ChannelSource, root: str = "/") -> tuple[Manifest, ...]:
    """All objects of a channel. Raises ProviderError with the place of the first fault."""
    get = _web(source.source) if source.remote else _folder(Path(root, source.source.lstrip("/")))
    found: dict[object, Manifest] = {}
    for name, text in _texts(source, get, Path(root, source.source.lstrip("/"))):
        for one in _documents(f"{source.source}: {name}", text):
            if key_of(one) in found:
                raise ProviderError(f"{source.source}: {name}: {key_of(one)} stands in the channel twice")
            found[key_of(one)] = one
    return tuple(found.values())


def _texts(source: ChannelSource, get: Get, folder: Path) -> Iterator[tuple[str, bytes]]:
    if not source.remote and not (folder / _CHANNEL).exists():
        with explain(f"list {folder}"):
            names = sorted(one.name for one in folder.iterdir() if one.name.endswith(".yaml"))
        yield from ((name, get(name)) for name in names)
        return
    listed = _yaml(f"{source.source}: {_CHANNEL}", get(_CHANNEL))
    addons = listed[0].get("addons") if len(listed) == 1 and isinstance(listed[0], Mapping) else None
    if not isinstance(addons, list):
        raise ProviderError(f"{source.source}: {_CHANNEL}: it has no list `addons`")
    for one in addons:
        if not isinstance(one, dict) or not all(isinstance(one.get(key), str) for key in ("name", "manifest")):
            raise ProviderError(f"{source.source}: {_CHANNEL}: an addon has no name or no manifest: {one!r}")
        name, expected = one["manifest"], one.get("sha256")
        if ".." in name.split("/") or name.startswith("/") or "://" in name or not name.isprintable():
            raise ProviderError(f"{source.source}: {_CHANNEL}: {name!r} isn't below the channel")
        text = get(name)
        if (source.remote or expected is not None) and hashlib.sha256(text).hexdigest() != expected:
            raise ProviderError(f"{source.source}: {name}: its sha256 isn't {expected}, as {_CHANNEL} tells")
        yield name, text


def _documents(place: str, text: bytes) -> Iterator[Manifest]:
    for document in _yaml(place, text):
        one = _json(place, document)
        items: object = [one]
        if isinstance(one, dict) and one.get("kind") == "List":
            items = one.get("items") or []
        if not isinstance(items, list):
            raise ProviderError(f"{place}: a List's items are {type(items).__name__} (expected: a list of objects)")
        for item in items:
            if item is None:
                continue
            if not isinstance(item, dict) or not _is_object(item):
                raise ProviderError(
                    f"{place}: a document is no object of the API"
                    " (expected as text: apiVersion, kind, metadata.name, and metadata.namespace where it has one)"
                )
            yield item


def _json(place: str, document: object) -> object:
    """A document as JSON has it, as Kubernetes reads it: a key that is a number becomes text."""
    try:
        return decode(encode(document))
    except (TypeError, RecursionError, ValueError, OverflowError, MsgspecError) as error:
        raise ProviderError(f"{place}: a document can't be written as JSON: {error}") from error


def _is_object(item: Manifest) -> bool:
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("namespace") or "", str):
        return False
    return bool(metadata.get("name")) and all(
        isinstance(one, str) for one in (item.get("apiVersion"), item.get("kind"), metadata["name"])
    )


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: what looks like a date is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _yaml(place: str, text: bytes) -> list[object]:
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError) as error:
        # the last three come from PyYAML where a text doesn't fit its tag, such as `!!bool maybe`
        raise ProviderError(f"{place}: no YAML: {error}") from error


def _folder(folder: Path) -> Get:
    def get(name: str) -> bytes:
        with explain(f"read {folder / name}"), (folder / name).open("rb") as file:
            return _short(str(folder / name), file.read(_LONGEST + 1))

    return get


def _web(url: str) -> Get:
    if urlsplit(url).scheme != "https":
        raise ProviderError(f"{url}: no https URL")
    base = url if url.endswith(_CHANNEL) else url.rstrip("/") + "/" + _CHANNEL
    opener = build_opener(HTTPSHandler(context=ssl.create_default_context()), _SameScheme())
    end = time.monotonic() + 3 * _LIMIT

    def get(name: str) -> bytes:
        place = urljoin(base, name)
        last = min(end, time.monotonic() + _LIMIT)
        try:
            with opener.open(place, timeout=max(0.1, last - time.monotonic())) as response:
                return _body(place, response, last)
        except (URLError, OSError, HTTPException, ValueError) as error:
            raise ProviderError(f"GET {place}: {error}") from error

    return get


def _body(place: str, response: HTTPResponse, last: float) -> bytes:
    """The whole answer, if it comes until `last` on the monotonic clock: a server that trickles holds nobody up.

    An answer that ends early would be a channel with fewer objects, so its end must be known beforehand.
    """
    if response.length is None and not response.chunked:
        raise ProviderError(f"GET {place}: the answer doesn't tell its length (expected: Content-Length)")
    content = bytearray()
    while piece := response.read1(_PIECE):
        content += piece
        if len(content) > _LONGEST:
            break
        if time.monotonic() > last:
            raise ProviderError(f"GET {place}: it took too long")
    if response.length and len(content) <= _LONGEST:
        raise ProviderError(f"GET {place}: it ends after {len(content)} bytes, {response.length} are missing")
    return _short(place, bytes(content))


class _SameScheme(HTTPRedirectHandler):
    """Follows a redirect only to https."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if urlsplit(newurl).scheme != "https":
            raise ProviderError(f"GET {req.full_url}: it is redirected to {newurl}, which is no https URL")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _short(place: str, content: bytes) -> bytes:
    if len(content) > _LONGEST:
        raise ProviderError(f"{place}: longer than {_LONGEST} bytes")
    return content
