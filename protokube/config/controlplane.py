"""Reads the control plane's settings from the configuration file."""

from __future__ import annotations

from collections.abc import Mapping

from protokube.config.keys import COMPONENT_KEYS, GROUPS, NODES
from protokube.core.component.model import Layer
from protokube.core.controlplane.images import KNOWN
from protokube.core.controlplane.layers import layer_faults
from protokube.core.controlplane.model import REGISTRY, ControlPlaneSettings, Images, Networking
from protokube.core.controlplane.names import API_SERVER
from protokube.core.controlplane.network import faults_of
from protokube.core.located import Located, Section
from protokube.core.model import Fault

_NETWORKING = {"podCIDR": "pod_cidr", "serviceCIDR": "service_cidr", "domain": "domain", "clusterDNS": "cluster_dns"}


def read_control_plane(section: Section | None, version: str | None, manifest_dir: str) -> ControlPlaneSettings:
    """The settings. Their faults are kept in them: they stop the control plane's changes, and nothing else."""
    if section is None:
        return ControlPlaneSettings(version=version, manifest_dir=manifest_dir)
    faults: list[Fault] = []
    own = Section(section.at, section.items, faults)
    networking, images, layers = _networking(own, faults), _images(own, faults), _layers(own.items, faults)
    group_layers, node_layers = _named(own, GROUPS, faults), _named(own, NODES, faults)
    faults += [
        Fault(f"{layer.place}.securePort", "is one for all API servers; expected in kubeAPIServer alone")
        for each in (*group_layers.values(), *node_layers.values())
        for layer in each.get(API_SERVER, ())
        if "securePort" in layer.values
    ]
    return ControlPlaneSettings(
        version, networking, images, layers, group_layers, node_layers, manifest_dir, tuple(faults)
    )


def _named(section: Section, key: str, faults: list[Fault]) -> dict[str, dict[str, tuple[Layer, ...]]]:
    """The layers of instance groups, or of nodes, by their names."""
    item = section.get(key)
    named = item.value if item is not None and isinstance(item.value, dict) else {}
    return {name: _layers(one.value, faults) for name, one in named.items() if isinstance(one.value, dict)}


def _layers(items: Mapping[str, Located], faults: list[Fault]) -> dict[str, tuple[Layer, ...]]:
    found: dict[str, tuple[Layer, ...]] = {}
    for key, component in COMPONENT_KEYS.items():
        item = items.get(key)
        if item is None or item.value is None:
            continue
        values = item.plain()
        if not isinstance(values, dict):
            faults.append(item.expected(f"a mapping of {component}'s settings"))
            continue
        layer = Layer(item.path, values)
        faults += [Fault(f"{item.file}: {one.place}", one.message) for one in layer_faults(component, layer)]
        found[component] = (layer,)
    return found


def _networking(section: Section, faults: list[Fault]) -> Networking:
    item = section.get("networking")
    if item is None:
        return Networking()
    given = Section.of(item, (*_NETWORKING, "coreDNS"), faults)
    texts = {field: text for key, field in _NETWORKING.items() if (text := given.text(key)) is not None}
    core_dns = given.get("coreDNS")
    if core_dns is not None and not isinstance(core_dns.value, bool):
        faults.append(core_dns.expected("true or false"))
    networking = Networking(**texts, core_dns=core_dns is None or core_dns.value is not False)
    faults += faults_of(networking, f"{item.file}: {item.path}")
    return networking


def _images(section: Section, faults: list[Fault]) -> Images:
    item = section.get("images")
    if item is None:
        return Images()
    given = Section.of(item, ("registry", "overrides"), faults)
    overrides = {name: str(each.value) for name, each in given.strings("overrides").items()}
    faults += [
        item.fault(f"overrides: {name!r} is no component; expected {', '.join(KNOWN)}")
        for name in sorted(overrides.keys() - set(KNOWN))
    ]
    return Images((given.text("registry") or REGISTRY).rstrip("/"), overrides)
