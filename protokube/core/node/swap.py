"""Swap: whether kubelet may have it, by those layers of its configuration that nodeup knows to be this machine's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from protokube.core.node.settings import NodeupSettings

REASON = "kubelet exits while swap is on (failSwapOn)"


def kubelet_takes_swap(settings: NodeupSettings) -> bool:
    """Whether kubelet's configuration turns failSwapOn off, by the last of its layers that says something."""
    plain = _protokube(settings)
    layers = [plain.get("kubelet")]
    layers += [plain.get("masterKubelet")] if settings.control_plane else []
    layers += [layer for name, layer in _layers_of(plain, "nodes") if name == settings.hostname]
    said = [value for layer in layers if (value := _fail_swap_on(layer)) is not None]
    return bool(said) and said[-1] is False


def hints(settings: NodeupSettings) -> list[str]:
    """What people should know where a layer keeps swap that may be this machine's, and nodeup turns it off."""
    plain = _protokube(settings)
    found = [f"instanceGroups.{name}" for name, layer in _layers_of(plain, "instanceGroups") if _keeps(layer)]
    found += [f"nodes.{name}" for name, layer in _layers_of(plain, "nodes") if _keeps(layer)]
    return [
        f"swap goes, though {name} sets failSwapOn: false: nodeup doesn't know whether that is this machine's; "
        "say it in `kubelet` to keep swap"
        for name in found
    ]


def _layers_of(plain: Mapping[str, object], key: str) -> Iterator[tuple[str, object]]:
    """The layers of kubelet below a key, by the names of their groups or nodes."""
    groups = plain.get(key)
    for name, group in groups.items() if isinstance(groups, dict) else ():
        if isinstance(group, dict):
            yield name, group.get("kubelet")


def _keeps(layer: object) -> bool:
    return _fail_swap_on(layer) is False


def _fail_swap_on(layer: object) -> object:
    """What a layer says, None when it says nothing."""
    return layer.get("failSwapOn") if isinstance(layer, dict) else None


def _protokube(settings: NodeupSettings) -> Mapping[str, object]:
    plain = settings.protokube.plain() if settings.protokube is not None else {}
    return plain if isinstance(plain, dict) else {}
