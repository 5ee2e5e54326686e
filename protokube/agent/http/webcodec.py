"""The bytes of the Web provider's contract, for both of its ends.

The contract is virtual-kubelet's of 2017 (providers/web, in Go). Its servers in the field are Rust, Node and .NET.
They answer JSON under any content type, `null` for fields that aren't set, and 204 for an empty result.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote_plus

import msgspec

from protokube.agent.core.model import Json, Pod, without_nulls
from protokube.core.component.values import WrongValueError, map_of, quantity
from protokube.errors import ProviderError

LARGEST_ANSWER = 16 << 20
"""Bytes of an answer. The client of 2017 cut every answer at 10⁶ bytes."""
LARGEST_REQUEST = 4 << 20
NARROW = 1_000_000
"""Bytes of an answer that the client of 2017 still reads."""
NO_CAPACITY = {"cpu": "0", "memory": "0", "pods": "0"}
"""What a node has as long as nobody has said."""

_QUANTITIES = map_of(lambda value: quantity(value).text)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def path(name: str, query: Sequence[tuple[str, str]] = ()) -> str:
    """A request's target. The query keeps its order, and is encoded as Go's url.QueryEscape does."""
    pairs = "&".join(f"{key}={quote_plus(value)}" for key, value in query)
    return f"/{name}?{pairs}" if pairs else f"/{name}"


def request_body(pod: Pod) -> bytes:
    """A pod as the Go client sends it: `creationTimestamp` and `status` are always there."""
    metadata = pod["metadata"]
    metadata = {**metadata, "creationTimestamp": metadata.get("creationTimestamp")}
    return msgspec.json.encode({**pod, "metadata": metadata, "status": pod.get("status") or {}})


def read_pod(content: bytes, call: str) -> Pod | None:
    """The pod in an answer; None for `null`, which is how .NET says that there is none.

    Raises ProviderError for anything else; an empty body is no answer.
    """
    value = _json(content, call)
    return None if value is None else _pod(value, call)


def read_status(content: bytes, call: str) -> Json | None:
    """The pod status in an answer; None for `null`. Raises ProviderError for anything else."""
    value = _json(content, call)
    return None if value is None else _object(value, call, "a pod's status")


def read_pods(content: bytes, call: str) -> list[Pod]:
    """The pods in an answer. Raises ProviderError for anything else: `null` is no list, and not the empty one."""
    value = _json(content, call)
    if not isinstance(value, list):
        raise ProviderError(f"{call}: expected an array of Pod objects, got {_shown(value)}")
    return [_pod(one, call) for one in value]


def read_events(content: bytes, call: str) -> tuple[int, list[Pod]]:
    """Where to go on, and the pods that changed. Raises ProviderError."""
    value = _object(_json(content, call), call, "an object with next and pods")
    after, pods = value.get("next"), value.get("pods", [])
    if not isinstance(after, int) or isinstance(after, bool) or not isinstance(pods, list):
        raise ProviderError(f"{call}: expected a number next and an array pods, got {_shown(value)}")
    return after, [_pod(one, call) for one in pods]


def read_conditions(content: bytes, call: str) -> list[Json]:
    """The node's conditions in an answer. Raises ProviderError."""
    return _objects(content, call, ("type", "status"))


def read_addresses(content: bytes, call: str) -> list[Json]:
    """The node's addresses in an answer. Raises ProviderError."""
    return _objects(content, call, ("type", "address"))


def read_capacity(content: bytes, call: str) -> dict[str, str]:
    """Quantities by resource name; a bare number is one too. Raises ProviderError."""
    value = _json(content, call)
    try:
        return {name: str(text) for name, text in _QUANTITIES(value).items()}
    except WrongValueError as error:
        raise ProviderError(f"{call}: expected quantities by resource name; {error}") from error


def pods_body(pods: Sequence[Pod]) -> tuple[bytes, bool]:
    """Pods as an answer, and whether the client of 2017 can read it.

    Near its limit the two fields go that only an API server needs, and that are often half of a pod.
    """
    body = msgspec.json.encode(list(pods))
    if len(body) >= NARROW * 9 // 10:
        body = msgspec.json.encode([_narrow(pod) for pod in pods])
    return body, len(body) < NARROW


def _narrow(pod: Pod) -> Pod:
    metadata = {name: value for name, value in pod["metadata"].items() if name != "managedFields"}
    if _LAST_APPLIED in (metadata.get("annotations") or {}):
        metadata["annotations"] = {k: v for k, v in metadata["annotations"].items() if k != _LAST_APPLIED}
    return {**pod, "metadata": metadata}


def _json(content: bytes, call: str) -> object:
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        got = "an empty body" if not content.strip() else _shown(content)
        raise ProviderError(f"{call}: expected JSON, got {got} ({error})") from error


def _objects(content: bytes, call: str, fields: Sequence[str]) -> list[Json]:
    """Objects that all have these fields, with text in them."""
    value = _json(content, call)
    if not isinstance(value, list):
        raise ProviderError(f"{call}: expected an array of objects, got {_shown(value)}")
    expected = f"an object with {' and '.join(fields)}"
    found = [_object(one, call, expected) for one in value]
    for one in found:
        if any(not isinstance(one.get(field), str) or not one[field] for field in fields):
            raise ProviderError(f"{call}: expected {expected}, got {_shown(one)}")
    return found


def _object(value: object, call: str, what: str) -> Json:
    if not isinstance(value, dict):
        raise ProviderError(f"{call}: expected {what}, got {_shown(value)}")
    found: Json = without_nulls(value)
    return found


def _pod(value: object, call: str) -> Pod:
    pod = _object(value, call, "a Pod object")
    metadata = pod.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise ProviderError(f"{call}: expected a Pod with metadata.name, got {_shown(value)}")
    for name in ("spec", "status"):
        if not isinstance(pod.get(name, {}), dict):
            raise ProviderError(f"{call}: pod {metadata['name']}: expected an object {name}, got {_shown(pod[name])}")
    return pod


def _shown(value: object) -> str:
    """The beginning of a value, for messages."""
    content = value if isinstance(value, bytes) else msgspec.json.encode(value)
    text = content[:200].decode(errors="replace")
    return f"{text}…" if len(content) > 200 else text
