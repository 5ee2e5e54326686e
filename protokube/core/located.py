"""YAML whose every value knows where it stands, so that every fault can name file, line and key.

    root, faults = parse(text, "inventory.yaml")
    section = Section.of(root, {"cluster", "volumes"}, faults)
    cluster = section.text("cluster", required=True)

Faults are collected, never raised: a reader goes on and reports all of them at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import yaml
from msgspec import Struct

from protokube.core.model import Fault

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NODE_LIMIT = 100_000
_MOST_DEEP = 100
_MOST_BITS = 1024
"""Of a number. Python writes none with more than 4,300 digits."""
_SHOWN = 100
"""Characters of a text that a message shows."""


class Located(Struct, frozen=True):
    """A YAML value and its place: `file:line key.path`. Mappings and lists hold Located values in turn."""

    value: object
    file: str
    line: int
    path: str = ""

    @property
    def place(self) -> str:
        """Where the value stands, for a Fault."""
        return f"{self.file}:{self.line}" + (f" {self.path}" if self.path else "")

    def plain(self) -> object:
        """The value without places, as yaml.safe_load would give it."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def fault(self, message: str) -> Fault:
        """A fault at this place."""
        return Fault(self.place, message)

    def expected(self, what: str) -> Fault:
        """A fault that shows the value and says what was expected instead."""
        return self.fault(f"{show(self.value)} where {what} was expected")


def show(value: object) -> str:
    """A value as people know it from the file, short."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}… ({len(value)} characters)"
    return str(value)


def parse(text: str, file: str) -> tuple[Located | None, list[Fault]]:
    """The document, or None when there is none that could be read; the faults say why, duplicate keys included."""
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:
        return None, [_syntax(error, file)]
    try:
        node = loader.get_single_node()
        if node is None:
            return None, [Fault(f"{file}:1", "nothing where a mapping was expected: the file is empty")]
        walker = _Walker(loader, file)
        return walker.walk(node, ""), walker.faults
    except yaml.YAMLError as error:
        return None, [_syntax(error, file)]
    finally:
        loader.dispose()


def _syntax(error: yaml.YAMLError, file: str) -> Fault:
    """YAML's own complaint, with its place."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = [getattr(error, "context", None), getattr(error, "problem", None)]
    what = ", ".join(part for part in said if part) or str(error)
    return Fault(f"{file}:{mark.line + 1 if mark else 1}", f"not valid YAML: {what}")


class _Walker:
    """Turns YAML's nodes into Located values, and guards against aliases that never end."""

    def __init__(self, loader: yaml.SafeLoader, file: str) -> None:
        self._loader = loader
        self._file = file
        self._above: set[int] = set()
        self._count = 0
        self.faults: list[Fault] = []

    def walk(self, node: yaml.Node, path: str) -> Located:
        line = node.start_mark.line + 1
        self._count += 1
        if id(node) in self._above or self._count > _NODE_LIMIT:
            raise yaml.composer.ComposerError(
                None, None, "an alias leads back to itself, or to far too much", node.start_mark
            )
        if len(self._above) >= _MOST_DEEP:
            raise yaml.composer.ComposerError(None, None, f"more than {_MOST_DEEP} levels deep", node.start_mark)
        self._above.add(id(node))
        try:
            return Located(self._value(node, path), self._file, line, path)
        finally:
            self._above.remove(id(node))

    def _value(self, node: yaml.Node, path: str) -> object:
        if isinstance(node, yaml.SequenceNode):
            return [self.walk(item, f"{path}[{number}]") for number, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            try:
                value = self._loader.construct_object(node)
            except ValueError as error:  # 2024-13-99 looks like a date and is none
                raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error
            except (AttributeError, TypeError, LookupError, OverflowError) as error:
                # PyYAML takes a text with a tag of its own (`!!timestamp x`, `!!bool x`) for what the tag says.
                kind = node.tag.rpartition(":")[2]
                problem = f"{show(node.value)} is no {kind}"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error
            if isinstance(value, int) and value.bit_length() > _MOST_BITS:
                problem = f"a number of {value.bit_length()} bits"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
            return value
        found: dict[str, Located] = {}
        for key_node, item in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or mapping as a key"
            value = self.walk(item, f"{path}.{key}" if path else key)
            if key in found:
                place = Located(None, self._file, key_node.start_mark.line + 1, value.path).place
                self.faults.append(Fault(place, f"the key is there already, in line {found[key].line}"))
                continue
            found[key] = value
        return found


class Section(Struct, frozen=True):
    """A mapping with known keys, read key by key. A faulty value reads as None and adds to `faults`."""

    at: Located
    items: Mapping[str, Located]
    faults: list[Fault]

    @classmethod
    def of(cls, at: Located, known: Collection[str], faults: list[Fault]) -> Section:
        """The mapping at a place. Unknown keys are faults that name the nearest known one."""
        if not isinstance(at.value, dict):
            faults.append(at.expected("a mapping"))
            return cls(at, {}, faults)
        for key, item in at.value.items():
            if key not in known:
                import difflib  # only for a fault: the start is to be quick

                near = difflib.get_close_matches(key, known, n=1)
                hint = f": did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"
                faults.append(item.fault(f"unknown key {key!r}{hint}"))
        return cls(at, at.value, faults)

    @classmethod
    def nothing(cls, faults: list[Fault]) -> Section:
        """A mapping without keys, in no file."""
        return cls(Located({}, "", 0, ""), {}, faults)

    def get(self, key: str, *, required: bool = False) -> Located | None:
        """The value of a key; None when it is absent or empty, which is a fault when it is required."""
        item = self.items.get(key)
        if item is not None and item.value is not None:
            return item
        if required:
            where = Located(None, self.at.file, (item or self.at).line, f"{self.at.path}.{key}".lstrip("."))
            self.faults.append(where.fault("is required"))
        return None

    def text(self, key: str, *, required: bool = False) -> str | None:
        """A string."""
        item = self.get(key, required=required)
        return self.string(item) if item else None

    def string(self, item: Located) -> str | None:
        """The string at a place; numbers and booleans must be quoted."""
        if isinstance(item.value, str):
            return item.value
        plain = item.value is not None and not isinstance(item.value, dict | list)
        self.faults.append(item.expected("a string" + (" (put it in quotes)" if plain else "")))
        return None

    def count(self, key: str, default: int) -> int:
        """A whole number from 1."""
        item = self.get(key)
        if item is None:
            return default
        if type(item.value) is int and item.value >= 1:
            return item.value
        self.faults.append(item.expected("a whole number from 1"))
        return default

    def flag(self, key: str) -> bool:
        """True or false; false when absent."""
        item = self.get(key)
        if item is not None and not isinstance(item.value, bool):
            self.faults.append(item.expected("true or false"))
        return item is not None and item.value is True

    def sequence(self, key: str, *, required: bool = False) -> Sequence[Located]:
        """A list; empty when absent."""
        item = self.get(key, required=required)
        if item is None:
            return ()
        if isinstance(item.value, list):
            return item.value
        self.faults.append(item.expected("a list"))
        return ()

    def strings(self, key: str) -> Mapping[str, Located]:
        """A mapping of strings to strings; empty when absent. Values keep their places."""
        item = self.get(key)
        if item is None:
            return {}
        if not isinstance(item.value, dict):
            self.faults.append(item.expected("a mapping"))
            return {}
        return {name: value for name, value in item.value.items() if self.string(value) is not None}
