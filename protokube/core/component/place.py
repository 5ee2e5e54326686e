"""Turns settings into flags and a configuration file, for one version of a component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from protokube.core.component.flags import flag_args
from protokube.core.component.layers import Settings
from protokube.core.component.rules import missing_gate
from protokube.core.component.schema import Field, Placement, Schema, Version, place, zero_is_default
from protokube.core.model import Fault

GATES = "featureGates"
"""The field of every Kubernetes component for its feature gates."""


class Placed(NamedTuple):
    """A component's flags, sorted, and the fields of its file; or the faults."""

    flags: tuple[str, ...]
    tree: Mapping[str, object]
    notes: tuple[str, ...]
    faults: tuple[Fault, ...]


def place_settings(
    schema: Schema, version: Version, settings: Settings, known_flags: frozenset[str] | None
) -> Placed:
    """Put each setting where `version` wants it. A setting that it doesn't know is a fault at its place.

    The values are those that `read_layer` took for this version.

    `known_flags`: what the installed binary's --help lists, without dashes; None when there is none to ask.
    """
    flags: list[str] = []
    tree: dict[str, object] = {}
    notes: list[str] = []
    faults: list[Fault] = []
    gates = settings[GATES].value if GATES in settings else {}
    assert isinstance(gates, Mapping)
    for name, (value, source) in sorted(settings.items()):
        field = schema.fields[name]
        if value in ("", [], {}) and not field.empty_counts:
            continue
        where = place(schema, field, version, known_flags)
        by_flag = not where.file or _only_a_flag_can_say(schema, field, value, version)
        problem = where.problem or (_no_way(schema, field, value, where) if by_flag else "")
        problem = problem or missing_gate(schema, field, value, version, gates) or ""
        if problem:
            faults.append(Fault(source, problem))
            continue
        if where.note:
            notes.append(f"{name}: {where.note}")
        if by_flag:
            flags += _flag(schema, field, value)
        else:
            _plant(tree, name, value)
    return Placed(tuple(sorted(flags)), tree, tuple(notes), tuple(faults))


def _only_a_flag_can_say(schema: Schema, field: Field, value: object, version: Version) -> bool:
    return zero_is_default(schema, field, version) and str(value) in ("", "0", "0s")


def _no_way(schema: Schema, field: Field, value: object, where: Placement) -> str:
    """Why a flag can't say it either, or nothing."""
    if not where.flag:
        default = f"{schema.component} reads it as its default"
        return f"{str(value)!r} can't be said: {default}, and there is no flag for it"
    between = schema.kind_of(field).joint
    parts = [f"{key}{each}" for key, each in value.items()] if isinstance(value, Mapping) else value
    texts = [part for part in parts if isinstance(part, str)] if isinstance(parts, list) else []
    if "repeat" not in field.marks and any("," in text for text in texts):
        return f"{value!r} can't be given as --{field.flag}: it holds a comma, which separates the flag's items"
    if isinstance(value, Mapping) and any(between in key for key in value):
        return f"{value!r} can't be given as --{field.flag}: a key holds {between!r}, which ends the flag's keys"
    return ""


def _flag(schema: Schema, field: Field, value: object) -> tuple[str, ...]:
    assert field.flag is not None
    kind = schema.kind_of(field)
    if kind.spell is not None and isinstance(value, Sequence) and not isinstance(value, str):
        value = kind.spell(value)
    return flag_args(
        field.flag,
        value,
        empty=field.empty_counts,
        unset=field.unset,
        repeat="repeat" in field.marks,
        joint=kind.joint,
    )


def _plant(tree: dict[str, object], name: str, value: object) -> None:
    """Set a field's value in the tree, making the structs on its path."""
    *path, last = name.split(".")
    for part in path:
        inner = tree.setdefault(part, {})
        assert isinstance(inner, dict)  # no field's name is another's path
        tree = inner
    tree[last] = value
