"""Texts that components read: environment files for systemd, and configuration files in YAML.

An environment file is read twice by systemd. As an EnvironmentFile= first: within double quotes a
backslash protects `"`, `\\`, a backtick and `$`, and nothing is expanded (systemd.exec(5)). Then `$NAME`, a
word of its own in ExecStart=, is split at white space; quotes are honoured and removed, and a backslash,
within quotes too, protects what follows. `$` and `%` in a value mean nothing at either stage. The two
stages are undone one after the other here. A shell that sources the file sees the same value.

In YAML every text is in double quotes, as in JSON: YAML 1.1 would read a bare `y`, `no` or `1e3` as something else
than text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from protokube.core.component.flags import Duration, Quantity

HEADER = "# Written by protokube from its configuration; changes made here are overwritten.\n"

_PLAIN_KEY = r"[A-Za-z][A-Za-z0-9]*"
_YAML_WORDS = frozenset({"y", "yes", "n", "no", "on", "off", "true", "false", "null"})
_PLAIN_WORD = r"[A-Za-z0-9_@%+=:,./$<>-]+"


def environment_file(name: str, words: Sequence[str]) -> str:
    """The text of an environment file, such that `$NAME` in a unit becomes exactly `words`."""
    text = " ".join(map(_quote_word, words))
    quoted = re.sub(r'(["\\`$])', r"\\\1", text)
    return f'{HEADER}{name}="{quoted}"\n'


def _quote_word(word: str) -> str:
    if re.fullmatch(_PLAIN_WORD, word):
        return word
    escaped = re.sub(r"(['\\])", r"\\\1", word)
    return f"'{escaped}'"


def document(api_version: str, kind: str, tree: Mapping[str, object]) -> str:
    """The text of a configuration file: its head, and the given fields, sorted by name."""
    head = f'apiVersion: "{api_version}"\nkind: "{kind}"\n'
    return HEADER + head + "".join(f"{line}\n" for line in _lines(tree))


def _lines(value: object) -> list[str]:
    if isinstance(value, Mapping) and value:
        return [line for key in sorted(value) for line in _entry(f"{_key(key)}:", value[key])]
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return [line for item in value for line in _item(_lines(item))]
    return [_scalar(value)]


def _entry(head: str, value: object) -> list[str]:
    nested = isinstance(value, Mapping | Sequence) and not isinstance(value, str) and bool(value)
    lines = _lines(value)
    return [head, *(f"  {line}" for line in lines)] if nested else [f"{head} {lines[0]}"]


def _item(lines: list[str]) -> list[str]:
    return [f"- {lines[0]}", *(f"  {line}" for line in lines[1:])]


def _key(key: str) -> str:
    return key if re.fullmatch(_PLAIN_KEY, key) and key.lower() not in _YAML_WORDS else _scalar(key)


def _scalar(value: object) -> str:
    if isinstance(value, Quantity):
        value = value.text
    elif isinstance(value, Duration):
        value = str(value)
    elif isinstance(value, float) and "e" in repr(value):
        from decimal import Decimal  # YAML 1.1 wants a point where there is an exponent

        return f"{Decimal(repr(value)):f}"
    elif isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        return "{}" if isinstance(value, Mapping) else "[]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
