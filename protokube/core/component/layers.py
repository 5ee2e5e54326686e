"""Layers of component configuration: cluster, role, instance group, node, the lowest first.

A layer is read into settings, one for each field, before it is laid over the ones beneath. So the rules are
the same for every shape in which a value can be written:

- a map of values (featureGates, labels, reservations, …) is merged key by key;
- everything else, lists too, is replaced by the layer above;
- null says nothing: it never erases what a layer beneath has set;
- empty text and an empty list replace what is beneath, which hands the choice back to the component.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from protokube.core.component.model import Layer
from protokube.core.component.rules import problems
from protokube.core.component.schema import Field, Schema, Version, nearest
from protokube.core.component.values import WrongValueError, wrong
from protokube.core.model import Fault


class Setting(NamedTuple):
    """A field's value, in the one form of its kind, and where it was written last."""

    value: object
    place: str


Settings = Mapping[str, Setting]


def read_layer(
    schema: Schema, layer: Layer, version: Version | None = None
) -> tuple[dict[str, Setting], tuple[Fault, ...]]:
    """The fields that a layer sets, by name, and everything that is wrong with it for `version`, or for every one."""
    reader = _Reader(schema, version)
    reader.read_struct("", layer.place, layer.values)
    return reader.settings, tuple(reader.faults)


def merge(layers: Iterable[Settings]) -> dict[str, Setting]:
    """Lay settings over one another, the lowest first."""
    result: dict[str, Setting] = {}
    for layer in layers:
        for name, setting in layer.items():
            beneath = result[name].value if name in result else None
            if isinstance(beneath, Mapping) and isinstance(setting.value, Mapping):
                result[name] = Setting({**beneath, **setting.value}, setting.place)
            else:
                result[name] = setting
    return result


class _Reader:
    """Walks one layer; keeps what it could read and every fault."""

    def __init__(self, schema: Schema, version: Version | None) -> None:
        self.schema = schema
        self.version = version
        self.settings: dict[str, Setting] = {}
        self.faults: list[Fault] = []

    def read_struct(self, path: str, place: str, values: Mapping[str, object]) -> None:
        """Read the keys of the configuration itself (`path` is empty) or of a struct in it."""
        for key, value in values.items():
            name = f"{path}.{key}" if path else str(key)
            here = f"{place}.{key}" if place else str(key)
            field = self.schema.fields.get(name) if "[]" not in name else None
            if field is not None:
                self.read_field(field, here, value)
            elif "[]" in name or name not in self.schema.structs:
                known = f"{self.schema.component} has no such field or flag{nearest(self.schema, name)}"
                self.faults.append(Fault(here, known))
            elif isinstance(value, Mapping):
                self.read_struct(name, here, value)
            elif value is not None:
                known = ", ".join(sorted(self.schema.keys_of(f"{name}.")))
                self.faults.append(Fault(here, f"{value!r} is wrong; expected a map with {known}"))

    def read_field(self, field: Field, place: str, value: object) -> None:
        """Read one field's value, unless it is null."""
        if field.owned:
            self.faults.append(Fault(place, f"can't be configured here: {field.hint}"))
        elif value is not None:
            read_value = self.value_of(field, place, value)
            if read_value is None:
                return
            found = list(problems(self.schema, field, read_value, self.version))
            self.faults += [Fault(place + suffix, problem) for suffix, problem in found]
            if not found:
                self.settings[field.name] = Setting(read_value, place)

    def value_of(self, field: Field, place: str, value: object) -> object:
        """The value in the one form of the field's kind; None after a fault."""
        read = self.schema.kind_of(field).read
        try:
            return self.objects(field, place, value) if read is None else read(value)
        except WrongValueError as error:
            self.faults.append(Fault(place, str(error)))
            return None

    def objects(self, field: Field, place: str, value: object) -> list[object] | None:
        """A list of maps, such as taints, whose keys are described by fields of their own; None after a fault."""
        if isinstance(value, str) and self.schema.kind_of(field).item is not None:
            value = value.split(",") if value else []
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise wrong(value, "a list")
        before = len(self.faults)
        items: list[object] = [self.item(field, f"{place}[{at}]", each) for at, each in enumerate(value)]
        return items if len(self.faults) == before else None

    def item(self, field: Field, place: str, value: object) -> dict[str, object]:
        """One map of such a list."""
        in_short = self.schema.kind_of(field).item
        if in_short is not None:
            value = in_short(value)
        if not isinstance(value, Mapping):
            raise wrong(value, "a list of maps")
        return self.parts(f"{field.name}[].", place, value)

    def parts(self, prefix: str, place: str, value: Mapping[object, object]) -> dict[str, object]:
        """What stands below a prefix in an item of a list."""
        known = self.schema.keys_of(prefix)
        result: dict[str, object] = {}
        for key, each in value.items():
            here, name = f"{place}.{key}", f"{prefix}{key}"
            if str(key) not in known:
                self.faults.append(Fault(here, f"is unknown; expected {', '.join(sorted(known))}"))
            elif each is not None and (inner := self.part(name, here, each)) is not None:
                result[str(key)] = inner
        needed = {key for key, part in known.items() if part is not None and "optional" not in part.marks}
        given = {key for key, each in value.items() if each not in (None, "")}
        if missing := sorted(needed - given):
            self.faults.append(Fault(place, f"{dict(value)!r} is wrong; expected {' and '.join(missing)} as well"))
        return result

    def part(self, name: str, place: str, value: object) -> object:
        """A field or a struct in an item of a list; None after a fault."""
        field = self.schema.fields.get(name)
        if field is not None:
            return self.value_of(field, place, value)
        if isinstance(value, Mapping):
            return self.parts(f"{name}.", place, value)
        known = ", ".join(sorted(self.schema.keys_of(f"{name}.")))
        self.faults.append(Fault(place, f"{value!r} is wrong; expected a map with {known}"))
        return None
