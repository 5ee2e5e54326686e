"""YAML from an untrusted source, such as a file on a volume: every fault is a yaml.YAMLError.

PyYAML lets other errors through (`2001-99-99` is a ValueError). libyaml's composer overflows the C stack on deep
nesting. A few aliases make a value whose text fills the memory.
"""

from __future__ import annotations

import yaml

MOST_DEEP = 50
"""Levels of nesting; a pod has eight."""

_loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text: str) -> object:
    """The document's value. Raises yaml.YAMLError and nothing else."""
    try:
        _check(text)
        return yaml.load(text, Loader=_loader)
    except (ValueError, LookupError, ArithmeticError, TypeError) as error:
        raise yaml.YAMLError(f"a value can't be read: {error}") from error


def _check(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_loader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias, which is not taken here")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEEP:
            raise yaml.YAMLError(f"it is nested more than {MOST_DEEP} deep")
