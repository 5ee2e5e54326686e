"""Reads kubelet's own settings from the configuration file."""

from __future__ import annotations

from typing import Any

from protokube.config.keys import COMPONENT_KEYS, GROUPS, NODES
from protokube.core.component.model import Layer
from protokube.core.component.schema import parse_version
from protokube.core.kubelet.render import layer_faults
from protokube.core.located import Section
from protokube.core.model import Fault


def read_kubelet(section: Section) -> dict[str, Any]:
    """kubelet's own settings, with their faults kept apart from all others: they stop kubelet's files alone."""
    faults: list[Fault] = []
    own = Section(section.at, section.items, faults)
    return {
        "version": _version(own, faults),
        "layers": _layer(own, "kubelet", faults),
        "master_layers": _layer(own, "masterKubelet", faults),
        "group_layers": _named(own, GROUPS, faults),
        "node_layers": _named(own, NODES, faults),
        "node_labels": _labels(own),
        "faults": tuple(faults),
    }


def _labels(section: Section) -> dict[str, str]:
    return {key: str(item.value) for key, item in section.strings("nodeLabels").items()}


def _version(section: Section, faults: list[Fault]) -> str | None:
    text = section.text("kubernetesVersion")
    if text is None:
        return None
    parsed = parse_version(text)
    if isinstance(parsed, Fault):
        faults.append(section.items["kubernetesVersion"].fault(parsed.message))
    return text


def _layer(section: Section, key: str, faults: list[Fault]) -> tuple[Layer, ...]:
    item = section.get(key)
    if item is None:
        return ()
    if not isinstance(item.value, dict):
        faults.append(item.expected("a mapping of kubelet's settings"))
        return ()
    values = item.plain()
    assert isinstance(values, dict)
    layer = Layer(item.path, values)
    faults += [Fault(f"{item.file}: {fault.place}", fault.message) for fault in layer_faults(layer)]
    return (layer,)


def _named(section: Section, key: str, faults: list[Fault]) -> dict[str, tuple[Layer, ...]]:
    """The layers of instance groups, or of nodes, by their names."""
    item = section.get(key)
    if item is None:
        return {}
    if not isinstance(item.value, dict):
        faults.append(item.expected("a mapping by name, such as {a: {kubelet: {maxPods: 60}}}"))
        return {}
    return {
        name: _layer(Section.of(group, ("kubelet", *COMPONENT_KEYS), faults), "kubelet", faults)
        for name, group in item.value.items()
    }
