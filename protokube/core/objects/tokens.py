"""Bootstrap tokens: what a machine shows once, to get its first certificate. Kubernetes keeps them as Secrets.

Each lives for a day at most, and the controller manager deletes it then. There is none that all machines share: one
that is stolen ends soon, and can be deleted alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from protokube.core.component.labels import is_subdomain
from protokube.core.model import Fault
from protokube.core.objects.model import BOOTSTRAPPERS, Manifest

NAMESPACE = "kube-system"
NODE = "protokube.io/node"
"""The annotation with the node that a token was made for."""
LONGEST = 86400.0
SHORTEST = 60.0
DEFAULT = 3600.0
"""Lives, in seconds."""

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
ID_LENGTH, SECRET_LENGTH = 6, 16
_LONGEST_NAME = 253
_ID = re.compile(r"[a-z0-9]{6}")
_DURATION = re.compile(r"([0-9]+)(s|m|h)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Token(Struct, frozen=True):
    """A token without its secret. `expires` is as the API writes times; empty: never. `node`: the only one that it
    makes; empty: any that isn't there yet."""

    id: str
    expires: str
    description: str
    node: str = ""


def parse_life(text: str) -> float | Fault:
    """Seconds of a life such as 90m."""
    read = _DURATION.fullmatch(text)
    seconds = int(read[1]) * _UNITS[read[2]] if read else None
    if seconds is None or not SHORTEST <= seconds <= LONGEST:
        return Fault("--ttl", f"{text!r} where a life from 1m to 24h was expected, such as 90m")
    return seconds


def is_id(text: str) -> bool:
    """Whether it is a token's id, which is the part before the point."""
    return _ID.fullmatch(text) is not None


def is_node_name(text: str) -> bool:
    """Whether the API takes it as the name of a node."""
    return len(text) <= _LONGEST_NAME and is_subdomain(text)


def secret_name(token_id: str) -> str:
    """The name of a token's Secret."""
    return f"bootstrap-token-{token_id}"


def secret_manifest(token: Token, secret: str) -> Manifest:
    """A token's Secret. It holds for authentication, and as the key that signs cluster-info."""
    metadata: dict[str, Any] = {"name": secret_name(token.id), "namespace": NAMESPACE}
    if token.node:
        metadata["annotations"] = {NODE: token.node}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": token.id,
            "token-secret": secret,
            "expiration": token.expires,
            "description": token.description,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": BOOTSTRAPPERS,
        },
    }


def tokens_of(secrets: Iterable[Mapping[str, Any]], text_of: Callable[[str], str]) -> tuple[Token, ...]:
    """The tokens among Secrets. `text_of` reads the base64 in which the API writes what they hold."""
    found = []
    for one in secrets:
        data = {key: text_of(value) for key, value in (one.get("data") or {}).items() if key != "token-secret"}
        if is_id(data.get("token-id", "")):
            node = (one["metadata"].get("annotations") or {}).get(NODE, "")
            found.append(Token(data["token-id"], data.get("expiration", ""), data.get("description", ""), node))
    return tuple(sorted(found, key=lambda token: (token.expires, token.id)))
