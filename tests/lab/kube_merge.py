"""Strategic merge patches, as far as the fields of pods and nodes go that an agent patches."""

from __future__ import annotations

from typing import Any

KEYS = {"conditions": "type", "addresses": "type", "podIPs": "ip", "ownerReferences": "uid"}
"""Lists that are merged, and by which field; every other list is replaced."""
_JOINED = ("finalizers",)
"""Lists of texts whose members are added."""


def strategic(base: Any, change: Any, field: str = "") -> Any:
    """The object after the patch; null removes a field."""
    if isinstance(change, dict):
        made = dict(base) if isinstance(base, dict) else {}
        for name, value in change.items():
            if value is None:
                made.pop(name, None)
            else:
                made[name] = strategic(made.get(name), value, name)
        return made
    if isinstance(change, list) and field in KEYS:
        return _by_key(base if isinstance(base, list) else [], change, KEYS[field])
    if isinstance(change, list) and field in _JOINED:
        return list(dict.fromkeys([*(base or []), *change]))
    return change


def merge(base: Any, change: Any) -> Any:
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(change, dict):
        return change
    made = dict(base) if isinstance(base, dict) else {}
    for name, value in change.items():
        if value is None:
            made.pop(name, None)
        else:
            made[name] = merge(made.get(name), value)
    return made


def _by_key(base: list[Any], change: list[Any], key: str) -> list[Any]:
    if {"$patch": "replace"} in change:
        return [one for one in change if "$patch" not in one]
    made = {one[key]: one for one in base}
    for one in change:
        made[one[key]] = strategic(made.get(one[key]), one)
    return list(made.values())
