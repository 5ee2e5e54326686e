"""From component configuration to kubelet's flags and configuration file, for the kubelet that is installed.

Whatever makes kubelet exit at its start is refused before a file is written: unknown fields, wrong types, fields that
this version doesn't know, labels that it may not give itself, names that the API refuses. All faults come at once.
The same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from protokube.core.component.flags import flag_args
from protokube.core.component.layers import Setting, Settings, merge, read_layer
from protokube.core.component.model import Layer
from protokube.core.component.place import place_settings
from protokube.core.component.schema import NEWEST, Version, parse_version, spell
from protokube.core.kubelet.defaults import Derived, of_cluster, of_identity, of_joining, of_machine, of_node
from protokube.core.kubelet.identity import CLIENT, SERVING, directory
from protokube.core.kubelet.join import CA_PATH
from protokube.core.kubelet.labels import label_faults, node_name_fault
from protokube.core.kubelet.machine import machine_faults
from protokube.core.kubelet.model import Machine
from protokube.core.kubelet.paths import BOOTSTRAP_PATH, CONFIG_PATH, KUBECONFIG_PATH
from protokube.core.kubelet.schema import kubelet_schema
from protokube.core.kubelet.text import args_file, config_file
from protokube.core.model import Fault

__all__ = ["KubeletFiles", "KubeletInput", "Layer", "Machine", "layer_faults", "render"]


class KubeletInput(Struct, frozen=True):
    """The input that decides kubelet's flags and configuration file.

    `version`: as in "1.36.2"; None when neither a binary nor the configuration tells. `layers`: the lowest first.
    `node_labels` lie beneath all of them. `node_ips`: internal addresses, the preferred one first.
    `identity`: its certificates are issued on this node. `joins`: it asks an API server for them. `cluster_dns`: the
    address and the domain of the cluster's DNS; None where another hand configures it.
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
    identity: bool = False
    joins: bool = False
    cluster_dns: tuple[str, str] | None = None
    manifest_dir: str = "/etc/kubernetes/manifests"
    machine: Machine | None = None
    known_flags: frozenset[str] | None = None


class KubeletFiles(Struct, frozen=True):
    """kubelet's flags, sorted, and the whole texts of both files; notes are for people."""

    flags: tuple[str, ...]
    args_file: str
    config_file: str
    notes: tuple[str, ...] = ()


def render(given: KubeletInput) -> KubeletFiles | tuple[Fault, ...]:
    """Render the files for this node, or return every fault of its configuration."""
    version = NEWEST if given.version is None else parse_version(given.version)
    configured, faults = _configured(given, None if isinstance(version, Fault) else version)
    if (name_fault := node_name_fault(given.node_name)) is not None:
        faults.append(name_fault)
    if isinstance(version, Fault):
        return (version, *faults)
    notes = list(_version_notes(given, version))
    settings = dict(configured)
    for name, value, reason in _derived(given, version, configured):
        if name not in configured:  # what is configured goes before what is derived
            settings[name] = Setting(value, "protokube")
            notes.append(f"{name}: {_show(value)} ({reason})")
    standalone = not given.kubeconfig_present and not given.joins and not _value(settings, "bootstrapKubeconfig")
    if standalone:
        notes.append(_go_standalone(settings))
    # Last, so that no layer changes them: protokube and its unit rely on these paths and names.
    settings |= _own(given, standalone)
    placed = place_settings(kubelet_schema(), version, settings, given.known_flags)
    faults += placed.faults
    if given.machine is not None:
        foretold = machine_faults(given.machine, settings, version)
        if given.version is None:
            # Without a binary the version is a guess, so these are notes: the kubelet that comes may be another.
            notes += map(str, foretold)
        else:
            faults += foretold
    if faults:
        return tuple(faults)
    notes += placed.notes
    return KubeletFiles(placed.flags, args_file(placed.flags), config_file(placed.tree), tuple(notes))


# --- what is set ---------------------------------------------------------------------------------------


def layer_faults(layer: Layer) -> tuple[Fault, ...]:
    """Every fault of one layer that no version of kubelet would take, for a check before there is a node."""
    return _read(layer, None)[1]


def _configured(given: KubeletInput, version: Version | None) -> tuple[dict[str, Setting], list[Fault]]:
    read = [_read(layer, version) for layer in (Layer("", {"nodeLabels": given.node_labels}), *given.layers)]
    return merge(settings for settings, _ in read), [fault for _, faults in read for fault in faults]


def _read(layer: Layer, version: Version | None) -> tuple[Settings, tuple[Fault, ...]]:
    settings, faults = read_layer(kubelet_schema(), layer, version)
    labels = settings.get("nodeLabels")
    if labels is not None and isinstance(labels.value, Mapping):
        faults += tuple(label_faults(labels.value, labels.place))
    return settings, faults


def _derived(given: KubeletInput, version: Version, configured: Settings) -> Iterator[Derived]:
    if given.machine is not None:
        yield from of_machine(given.machine)
    if given.identity:
        yield from of_identity(directory(CLIENT), directory(SERVING))
    if given.joins:
        yield from of_joining(CA_PATH)
    if given.cluster_dns is not None:
        yield from of_cluster(*given.cluster_dns)
    cloud = bool(_value(configured, "cloudProvider"))
    yield from of_node(given.node_ips, given.provider_id, given.master, cloud, version)


def _go_standalone(settings: dict[str, Setting]) -> str:
    """Set what a kubelet without a kubeconfig needs; return the note on it.

    Webhook authentication and authorization need an API server: without one kubelet exits. Until there is one, its
    own API refuses every client.
    """
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
    if given.joins:
        own["bootstrapKubeconfig"] = BOOTSTRAP_PATH
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
        return ", ".join(f"{one['key']}:{one['effect']}" if isinstance(one, dict) else str(one) for one in value)
    return " ".join(flag_args("", value)).removeprefix("--=")
