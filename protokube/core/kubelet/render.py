"""From component configuration to kubelet's flags and configuration file, for the kubelet that is installed.

Everything that kubelet would die of at start is refused here, before a file is written: unknown fields, wrong
types, what this version doesn't know, labels that it may not give itself, names that the API refuses. All
faults come at once. The result is the same to the byte for the same input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from protokube.core.component.flags import flag_args
from protokube.core.component.labels import label_faults, node_name_fault
from protokube.core.component.layers import Setting, Settings, merge, read_layer
from protokube.core.component.model import Layer
from protokube.core.component.schema import NEWEST, Field, Placement, Version, fields, parse_version, place, spell
from protokube.core.component.text import args_file, config_file
from protokube.core.component.values import joint
from protokube.core.kubelet.defaults import Derived, of_machine, of_node
from protokube.core.kubelet.model import Machine
from protokube.core.kubelet.paths import CONFIG_PATH, KUBECONFIG_PATH
from protokube.core.model import Fault

__all__ = ["KubeletFiles", "KubeletInput", "Layer", "Machine", "layer_faults", "render"]


class KubeletInput(Struct, frozen=True):
    """All that decides what kubelet is started with.

    `version`: as in "1.36.2"; None when neither a binary nor the configuration tells. `layers`: the lowest first.
    `node_labels` lie beneath all of them. `node_ips`: internal addresses, the preferred one first.
    `known_flags`: what the installed kubelet's --help lists, without dashes; None when there is none to ask.
    """

    version: str | None
    layers: tuple[Layer, ...]
    node_labels: Mapping[str, str]
    node_name: str
    node_ips: tuple[str, ...] = ()
    provider_id: str | None = None
    master: bool = False
    kubeconfig_present: bool = False
    manifest_dir: str = "/etc/kubernetes/manifests"
    machine: Machine | None = None
    known_flags: frozenset[str] | None = None


class KubeletFiles(Struct, frozen=True):
    """What kubelet is started with: its flags, sorted, and the whole texts of both files; notes are for people."""

    flags: tuple[str, ...]
    args_file: str
    config_file: str
    notes: tuple[str, ...] = ()


def render(given: KubeletInput) -> KubeletFiles | tuple[Fault, ...]:
    """The files for this node, or everything that is wrong with its configuration."""
    version = NEWEST if given.version is None else parse_version(given.version)
    configured, faults = _configured(given)
    if (name_fault := node_name_fault(given.node_name)) is not None:
        faults.append(name_fault)
    if isinstance(version, Fault):
        return (version, *faults)
    notes = list(_version_notes(given, version))
    settings = dict(configured)
    for name, value, reason in _derived(given, version, configured):
        if name not in configured:
            settings[name] = Setting(value, "protokube")
            notes.append(f"{name}: {_show(value)} ({reason})")
    standalone = not given.kubeconfig_present and not _value(settings, "bootstrapKubeconfig")
    if standalone:
        notes.append(_go_standalone(settings))
    settings |= _own(given, standalone)
    flags, tree = _placed(given, version, settings, faults, notes)
    if faults:
        return tuple(faults)
    return KubeletFiles(flags, args_file(flags), config_file(tree), tuple(notes))


# --- what is set ---------------------------------------------------------------------------------------


def layer_faults(layer: Layer) -> tuple[Fault, ...]:
    """Everything that is wrong with one layer whatever kubelet's version is, for a check before there is a node."""
    return _read(layer)[1]


def _configured(given: KubeletInput) -> tuple[dict[str, Setting], list[Fault]]:
    read = [_read(layer) for layer in (Layer("", {"nodeLabels": given.node_labels}), *given.layers)]
    return merge(settings for settings, _ in read), [fault for _, faults in read for fault in faults]


def _read(layer: Layer) -> tuple[Settings, tuple[Fault, ...]]:
    settings, faults = read_layer(layer)
    labels = settings.get("nodeLabels")
    if labels is not None and isinstance(labels.value, Mapping):
        faults += tuple(label_faults(labels.value, labels.place))
    return settings, faults


def _derived(given: KubeletInput, version: Version, configured: Settings) -> Iterator[Derived]:
    if given.machine is not None:
        yield from of_machine(given.machine)
    cloud = bool(_value(configured, "cloudProvider"))
    yield from of_node(given.node_ips, given.provider_id, given.master, cloud, version)


def _go_standalone(settings: dict[str, Setting]) -> str:
    """Without an API server to ask, kubelet exits if it shall ask one: let nobody in until there is one."""
    note = f"{KUBECONFIG_PATH} isn't there: kubelet runs standalone, only the pods of its manifest folder"
    if _value(settings, "authentication.webhook.enabled") is not False:
        settings["authentication.webhook.enabled"] = Setting(False, "protokube")
    if _value(settings, "authorization.mode") in (None, "", "Webhook"):
        settings["authorization.mode"] = Setting("AlwaysAllow", "protokube")
        settings["authentication.anonymous.enabled"] = Setting(False, "protokube")
        settings.pop("authentication.x509.clientCAFile", None)
        note += ", and its own API lets nobody in"
    return note


def _own(given: KubeletInput, standalone: bool) -> dict[str, Setting]:
    own: dict[str, object] = {
        "config": CONFIG_PATH,
        "hostnameOverride": given.node_name,
        "staticPodPath": given.manifest_dir,
    }
    if not standalone:
        own["kubeconfig"] = KUBECONFIG_PATH
    return {name: Setting(value, "protokube") for name, value in own.items()}


def _value(settings: Settings, name: str) -> object:
    return settings[name].value if name in settings else None


def _version_notes(given: KubeletInput, version: Version) -> Iterator[str]:
    if given.version is None:
        yield f"no kubelet and no kubernetesVersion: rendered for {spell(NEWEST)}, the newest one known"
    elif version[:2] > NEWEST[:2]:
        yield f"kubelet {spell(version)} is newer than {spell(NEWEST)}, the newest one known; rendered as for that"


def _show(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(f"{taint['key']}:{taint['effect']}" for taint in value)
    return " ".join(flag_args("", value)).removeprefix("--=")


# --- where it goes -------------------------------------------------------------------------------------


def _placed(
    given: KubeletInput, version: Version, settings: Settings, faults: list[Fault], notes: list[str]
) -> tuple[tuple[str, ...], dict[str, object]]:
    """The flags and the configuration file's tree; what can't be placed joins the faults."""
    flags: list[str] = []
    tree: dict[str, object] = {}
    for name, (value, source) in sorted(settings.items()):
        field = fields()[name]
        if value in ("", [], {}) and not field.empty_counts:
            continue
        where = place(field, version, given.known_flags)
        by_flag = not where.file or _only_a_flag_can_say(field, value, version)
        problem = where.problem or (_no_way(field, value, where) if by_flag else "")
        if problem:
            faults.append(Fault(source, problem))
            continue
        if where.note:
            notes.append(f"{name}: {where.note}")
        if by_flag:
            flags += _flag(field, value)
        else:
            _plant(tree, name, value)
    return tuple(sorted(flags)), tree


def _only_a_flag_can_say(field: Field, value: object, version: Version) -> bool:
    return field.zero_is_default(version) and str(value) in ("", "0", "0s")


def _no_way(field: Field, value: object, where: Placement) -> str:
    """Why a flag can't say it either, or nothing."""
    if not where.flag:
        return f"{str(value)!r} can't be said: kubelet reads it as its default, and there is no flag for it"
    between = joint(field.kind)
    parts = [f"{key}{each}" for key, each in value.items()] if isinstance(value, Mapping) else value
    if isinstance(parts, list) and any(isinstance(part, str) and "," in part for part in parts):
        return f"{value!r} can't be given as --{field.flag}: it holds a comma, which separates the flag's items"
    if isinstance(value, Mapping) and any(between in key for key in value):
        return f"{value!r} can't be given as --{field.flag}: a key holds {between!r}, which ends the flag's keys"
    return ""


def _flag(field: Field, value: object) -> tuple[str, ...]:
    assert field.flag is not None
    if field.kind == "taints" and isinstance(value, list):
        value = [f"{taint['key']}={taint.get('value', '')}:{taint['effect']}" for taint in value]
    elif field.name == "reservedMemory" and isinstance(value, list):
        value = ";".join(
            f"{node['numaNode']}:{flag_args('', node['limits'])[0].removeprefix('--=')}" for node in value
        )
    return flag_args(field.flag, value, empty=field.empty_counts, unset=field.unset, joint=joint(field.kind))


def _plant(tree: dict[str, object], name: str, value: object) -> None:
    """Set a field's value in the tree, making the structs on its path."""
    *path, last = name.split(".")
    for part in path:
        inner = tree.setdefault(part, {})
        assert isinstance(inner, dict)  # no field's name is another's path
        tree = inner
    tree[last] = value
