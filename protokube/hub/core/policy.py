"""A node's policy: who may change it. The hub can't alter it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from protokube.core.model import Fault
from protokube.hub.core.checks import Mode, Unsigned
from protokube.hub.core.names import is_name


class Policy(Struct, frozen=True):
    """What suffices for a change, and the Ed25519 public keys (32 bytes) that count, by name.

    `manifests`: the directory of static pods that the hub's may join. Without one the node takes none: a pod may do
    whatever root may.
    """

    mode: Mode = Mode.READ_ONLY
    keys: Mapping[str, bytes] = {}
    manifests: str | None = None


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    policy: Mode = Mode.READ_ONLY
    keys: dict[str, str] = {}
    manifests: str | None = None


def read_policy(value: object, place: str) -> Policy | tuple[Fault, ...]:
    """Read the policy file's value (None: the file is empty or absent), or name every fault in it."""
    if value is None:
        return Policy()
    try:
        given = msgspec.convert(value, _File)
    except msgspec.ValidationError as error:
        return (Fault(place, str(error)),)
    faults, keys = [], {}
    for name, text in given.keys.items():
        try:
            key = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not is_name(name):
            faults.append(Fault(place, f"keys.{name}: lower-case DNS labels were expected"))
        if len(key) != 32:
            faults.append(Fault(place, f"keys.{name}: 32 bytes in base64 were expected: an Ed25519 public key"))
        keys[name] = key
    if given.policy is Mode.SIGNED and not keys:
        faults.append(Fault(place, "policy: signed without keys allows nobody; list one, or say read-only"))
    if given.manifests is not None and not given.manifests.startswith("/"):
        faults.append(Fault(place, f"manifests: an absolute path was expected, got {given.manifests[:200]!r}"))
    return tuple(faults) if faults else Policy(given.policy, keys, given.manifests)


def signing_key(policy: Policy, name: str | None, signature: str | None) -> tuple[str, bytes, bytes] | Unsigned:
    """The listed key that a command names, and its signature's bytes; or why no signature of it can count."""
    if name is None or signature is None:
        return Unsigned("it is unsigned; sign it: nokubectl keygen, and list the key on the node")
    if name not in policy.keys:
        listed = ", ".join(policy.keys) or "none"
        return Unsigned(f"key {name[:64]!r} isn't listed on this node; listed: {listed}")
    try:
        data = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return Unsigned(f"the signature of {name} isn't base64")
    return name, policy.keys[name], data
