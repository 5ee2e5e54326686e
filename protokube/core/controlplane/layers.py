"""Reads a component's layers: its own fields, and the files that stand in them whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from protokube.core.component.layers import Setting, Settings, merge, read_layer
from protokube.core.component.model import Layer
from protokube.core.component.schema import Version
from protokube.core.controlplane.names import API_SERVER
from protokube.core.controlplane.schemas import API_SERVER_FILES, component_schema, file_schema
from protokube.core.model import Fault


class Configured(Struct, frozen=True):
    """What is configured for a component. `files`: the key of a file → its own settings."""

    settings: Settings
    files: Mapping[str, Settings] = {}
    faults: tuple[Fault, ...] = ()


def read_layers(component: str, layers: Sequence[Layer], version: Version | None = None) -> Configured:
    """What the layers of a component say together, the lowest first, and every fault for `version`, or for all."""
    settings: list[Settings] = []
    files: dict[str, list[Settings]] = {}
    faults: list[Fault] = []
    for layer in layers:
        own, inner, found = _split(component, layer)
        faults += found
        read, wrong = read_layer(component_schema(component), own, version)
        settings.append(read)
        faults += wrong
        for key, values in inner.items():
            read, wrong = read_layer(file_schema(key), Layer(f"{layer.place}.{key}", values), version)
            files.setdefault(key, []).append(read)
            faults += wrong
    merged = {key: merge(each) for key, each in files.items()}
    return Configured(merge(settings), merged, tuple(faults))


def layer_faults(component: str, layer: Layer) -> tuple[Fault, ...]:
    """Every fault of one layer that no version of the component would take, for a check before there is a node."""
    return read_layers(component, (layer,)).faults


def _split(component: str, layer: Layer) -> tuple[Layer, Mapping[str, Mapping[str, object]], list[Fault]]:
    """A layer without its files, and the files by their keys."""
    if component != API_SERVER:
        return layer, {}, []
    inner: dict[str, Mapping[str, object]] = {}
    faults: list[Fault] = []
    for key in API_SERVER_FILES:
        values = layer.values.get(key)
        if isinstance(values, Mapping):
            inner[key] = {str(name): each for name, each in values.items()}
        elif values is not None:
            faults.append(
                Fault(f"{layer.place}.{key}", f"{values!r} is wrong; expected a map with the file's fields")
            )
    own = {key: value for key, value in layer.values.items() if key not in API_SERVER_FILES}
    return Layer(layer.place, own), inner, faults


def value_of(settings: Settings, name: str) -> object:
    """A setting's value; None when it isn't set."""
    return settings[name].value if name in settings else None


def ours(values: Mapping[str, object]) -> dict[str, Setting]:
    """Settings that protokube makes itself."""
    return {name: Setting(value, "protokube") for name, value in values.items()}
