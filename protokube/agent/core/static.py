"""From a file's bytes to its pod, or to every fault of it.

The rules are kubelet's for static pods (1.34 and newer): nothing that only an API server could hand out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import yaml
from msgspec import Struct

from protokube.agent.core.checks import faults_of_spec
from protokube.agent.core.model import Pod, without_nulls
from protokube.agent.core.names import is_uid, static_pod
from protokube.agent.core.pods import key_of, title, uid_of
from protokube.core.model import Fault
from protokube.core.untrusted_yaml import load

LARGEST = 10 << 20
"""Bytes of a file or an answer, as in kubelet."""

_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


Reading = Callable[[bytes, str], "Pod | tuple[Fault, ...]"]


class Heard(Struct, frozen=True):
    """What a source's content says: pods by UID, owners whose pods can't be told, and every fault."""

    pods: Mapping[str, Pod]
    held: frozenset[str] = frozenset()
    faults: tuple[Fault, ...] = ()


def pods_of_files(files: Mapping[str, bytes | Fault], node: str, read: Reading | None = None) -> Heard:
    """Read the files of a directory: file name → content, or why it couldn't be read.

    `read` is `read_pod`, or one that remembers what it has read.

    A file that can't be used holds its owner's pod: it goes on as it is. kubelet ends it; see kubernetes#116880 and
    #88402 for what becomes of nodes then. Of two files with one pod's name the first by file name runs.
    """
    pods: dict[str, Pod] = {}
    names: dict[tuple[str, str], str] = {}
    held: set[str] = set()
    faults: list[Fault] = []
    for name, content in sorted(files.items()):
        owner = f"file:{name}"
        found = (content,) if isinstance(content, Fault) else (read or read_pod)(content, name)
        if isinstance(found, tuple):
            faults += found
            held.add(owner)
            continue
        pod = static_pod(found, node=node, owner=owner, place=owner)
        if (first := names.get(key_of(pod))) is not None or uid_of(pod) in pods:
            other = first or "another file"
            faults.append(Fault(name, f"pod {title(pod)} is in {other} already; that one runs: remove one of them"))
            continue
        names[key_of(pod)] = name
        pods[uid_of(pod)] = pod
    return Heard(pods, frozenset(held), tuple(faults))


def pods_of_answer(content: bytes, url: str, node: str) -> Heard | tuple[Fault, ...]:
    """Read a URL's answer: one Pod or a PodList. An empty list clears; nothing at all is a fault."""
    value = _parsed(content, url)
    if isinstance(value, Fault):
        return (value,)
    if isinstance(value, dict) and value.get("kind") in ("PodList", "List"):
        items = value.get("items")
        if not isinstance(items, list):
            return (Fault(url, f"items: a list of pods was expected, got {_kind(items)}"),)
        listed = [{"apiVersion": "v1", "kind": "Pod", **item} if isinstance(item, dict) else item for item in items]
    else:
        listed = [value]
    faults = [fault for number, one in enumerate(listed) for fault in _faults(one, _place(url, number, listed))]
    if faults:
        return tuple(faults)
    pods = [static_pod(without_nulls(one), node=node, owner="http", place=f"url:{url}") for one in listed]
    return Heard({uid_of(pod): pod for pod in pods})


def read_pod(content: bytes, place: str) -> Pod | tuple[Fault, ...]:
    """The one pod of a file as it stands there, or every fault."""
    value = _parsed(content, place)
    if isinstance(value, Fault):
        return (value,)
    faults = tuple(_faults(value, place))
    return faults or without_nulls(value)


def _place(url: str, number: int, listed: list[Any]) -> str:
    return url if len(listed) == 1 else f"{url} items[{number}]"


def _parsed(content: bytes, place: str) -> Any:
    if len(content) > LARGEST:
        return Fault(place, f"it is larger than {LARGEST >> 20} MiB; a pod was expected")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        return Fault(place, f"it is no UTF-8 text: {error.reason} at byte {error.start}")
    if not text.strip():
        return Fault(place, "it is empty; a pod was expected")
    try:
        value = load(text)
        json.dumps(value)  # what YAML knows beyond JSON, dates above all, is no pod's
    except (yaml.YAMLError, TypeError, ValueError) as error:
        return Fault(place, f"it is neither JSON nor YAML for a pod: {' '.join(str(error).split())}")
    return value


def _faults(value: Any, place: str) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield Fault(place, f"a pod was expected, got {_kind(value)}")
        return
    value = without_nulls(value)
    for field, expected in (("apiVersion", "v1"), ("kind", "Pod")):
        if value.get(field) != expected:
            yield Fault(place, f"{field}: {expected} was expected, got {value.get(field)!r}")
    yield from _metadata_faults(value.get("metadata"), place)
    spec = value.get("spec")
    if not isinstance(spec, dict):
        yield Fault(place, f"spec: a mapping was expected, got {_kind(spec)}")
        return
    yield from (Fault(place, text) for text in faults_of_spec(spec))


def _metadata_faults(metadata: Any, place: str) -> Iterator[Fault]:
    if not isinstance(metadata, dict):
        yield Fault(place, f"metadata: a mapping was expected, got {_kind(metadata)}")
        return
    name = metadata.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield Fault(place, f"metadata.name: a DNS name in lower case was expected, got {name!r}")
    namespace = metadata.get("namespace", "default")
    if not isinstance(namespace, str) or not _NAME.fullmatch(namespace):
        yield Fault(place, f"metadata.namespace: a DNS name in lower case was expected, got {namespace!r}")
    uid = metadata.get("uid")
    if uid is not None and not (isinstance(uid, str) and is_uid(uid)):
        yield Fault(place, f"metadata.uid: a UUID or 32 hex digits in lower case were expected, got {uid!r}")
    for field in ("labels", "annotations"):
        try:
            msgspec.convert(metadata.get(field, {}), dict[str, str])
        except msgspec.ValidationError as error:
            yield Fault(place, f"metadata.{field}: {error}")


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__
