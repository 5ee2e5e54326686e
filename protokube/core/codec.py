"""Values as JSON, both ways: reports, saved plans and journals.

A value that doesn't fit raises msgspec.ValidationError with the path of the fault, such as
`$.steps[1].action.volume_id`.
"""

from __future__ import annotations

import functools
import operator
from typing import Any, TypeVar

import msgspec

from protokube.core.action import Action, kinds

T = TypeVar("T")


def encode(value: object) -> bytes:
    """A value as JSON."""
    return msgspec.json.encode(value)


def decode(data: bytes | str, kind: type[T]) -> T:
    """Read a JSON text as a value of a kind."""
    return msgspec.json.decode(data, type=kind, dec_hook=_action)


def _action(kind: type, data: Any) -> object:
    """An action is whatever its `kind` says; concerns add kinds."""
    if kind is not Action:
        raise TypeError(f"{kind} has no form in JSON")
    try:
        return msgspec.convert(data, functools.reduce(operator.or_, kinds().values()))
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error  # msgspec adds the path to the action
