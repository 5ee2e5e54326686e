"""Reads and validates the configuration; reports all faults at once, before anything is done."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from protokube.config.backup import backup_settings
from protokube.config.etcd import etcd_image, etcd_quota, node_clients
from protokube.config.keys import ADDONS, COMPONENT_KEYS, CONTROL_PLANE_KEYS, FILE_ONLY, KUBELET_KEYS
from protokube.config.options import OPTIONS, Value, from_arguments, from_environment, from_file
from protokube.core.controlplane.names import API_PORT
from protokube.core.disks.model import DiskSettings
from protokube.core.dns.model import DnsSettings
from protokube.core.etcd.model import EtcdSettings, EtcdTemplate
from protokube.core.etcd.template import check_pod, parse_template
from protokube.core.kubelet.model import KubeletSettings
from protokube.core.located import Located, Section, parse
from protokube.core.model import Fault
from protokube.core.node.model import AGENT_UNIT
from protokube.core.pki.model import PkiSettings
from protokube.core.settings import NodeConfig
from protokube.core.volumes.model import VolumeSettings
from protokube.core.volumes.tags import is_dns_name
from protokube.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from protokube.core.controlplane.model import ControlPlaneSettings
    from protokube.core.objects.model import ChannelSource


DEFAULT_CONFIG = "etc/protokube/config.yaml"
DEFAULT_INVENTORY = "etc/protokube/inventory.yaml"


class Settings(Struct, frozen=True):
    """The whole configuration: `node` for decisions, the rest for the wiring.

    Paths here are real paths. `cloud`, `dns` and `node_name` are None when they are to be found out. `interval` and
    `timeout` are seconds; on a converged node records are read in one of `records_every` reconciles.
    `prove_every_byte`: a disk is read whole before it is formatted.
    """

    node: NodeConfig
    root: str
    once: bool
    dry_run: bool
    cloud: str | None
    inventory: str
    node_name: str | None
    dns: str | None
    dns_zone: str | None
    dns_server: str | None
    dns_keyfile: str | None
    interval: float
    timeout: float
    output: str
    detailed_exitcode: bool
    verbose: bool
    log_format: str
    records_every: int
    imds_v1: bool
    prove_every_byte: bool
    store: str | None = None
    store_key: str | None = None


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[Settings, list[Fault]]:
    """Read command line, environment, file and templates: the settings, and every fault in them. The faults of
    kubelet's own settings stand with these.

    A faulty value reads as its default, so that the other faults are found as well. Raises UsageError, and
    ConfigError when the file can't be read at all, since its values can't be checked then.
    """
    given = from_arguments(arguments)
    faults: list[Fault] = []
    surroundings = from_environment(environment, faults)
    for name, source in (("--root", given), ("PROTOKUBE_ROOT", surroundings)):
        if source.get("root") == "":  # a variable that a script forgot to set must not mean this machine
            raise UsageError(f"{name}: expected a directory, got an empty text; / is this machine's root")
    root = str(given.get("root") or surroundings.get("root") or "/")
    named = given.get("config") or surroundings.get("config")
    path = Path(str(named)) if named else Path(root, DEFAULT_CONFIG)
    section = _read_file(path, faults) if named or path.exists() else None
    file_values = from_file(section.items, faults) if section else {}
    values: dict[str, Value | None] = {option.name: option.default for option in OPTIONS}
    values |= file_values | surroundings | given
    return _settings(values, section, root, faults), faults


def check(document: Located, faults: list[Fault]) -> None:
    """Check a configuration that stands inside another document, by the rules of its file.

    A template directory that it names is not looked at: it is the node's, and this may be another machine.
    """
    section = Section.of(document, _known_keys(), faults)
    values: dict[str, Value | None] = {option.name: option.default for option in OPTIONS}
    values |= {name: value for name, value in from_file(section.items, faults).items() if name != "template-dir"}
    node = _settings(values, section, "/", faults).node
    faults += (*node.kubelet.faults, *(node.components.faults if node.components is not None else ()))


def _known_keys() -> list[str]:
    return [option.key for option in OPTIONS if option.in_file] + list(FILE_ONLY)


def _read_file(path: Path, faults: list[Fault]) -> Section | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([*faults, Fault(str(path), f"can't be read: {reason}; expected a YAML file")]) from error
    if not text.strip():
        return None
    document, found = parse(text, str(path))
    faults += found
    if document is None:
        raise ConfigError(faults)
    return Section.of(document, _known_keys(), faults)


def _settings(
    values: Mapping[str, Value | None], section: Section | None, root: str, faults: list[Fault]
) -> Settings:
    def text(name: str) -> str | None:
        value = values[name]
        return None if value is None else str(value)

    def number(name: str) -> float:
        value = values[name]
        assert isinstance(value, float)
        return value

    dns = {"aws-route53": "route53"}.get(text("dns") or "", text("dns"))
    if number("interval") <= 0:
        faults.append(Fault("--interval", "0 where at least a moment was expected"))
    return Settings(
        node=_node(values, section, faults),
        root=root,
        once=bool(values["once"]),
        dry_run=bool(values["dry-run"]),
        cloud=text("cloud"),
        inventory=text("inventory") or str(Path(root, DEFAULT_INVENTORY)),
        node_name=text("node"),
        dns=dns,
        dns_zone=text("dns-zone-name"),
        dns_server=text("dns-server"),
        dns_keyfile=text("dns-tsig-keyfile"),
        interval=number("interval"),
        timeout=number("timeout"),
        output=str(values["output"]),
        detailed_exitcode=bool(values["detailed-exitcode"]),
        verbose=bool(values["verbose"]),
        log_format=str(values["log-format"]),
        records_every=_count(section, "dnsReadEvery", 5, faults),
        imds_v1=_flag(section, "imdsV1", faults),
        prove_every_byte=values["prove-blank"] == "full",
        store=text("store"),
        store_key=text("store-key"),
    )


def _node(values: Mapping[str, Value | None], section: Section | None, faults: list[Fault]) -> NodeConfig:
    suffix = values["dns-internal-suffix"]
    if suffix is not None:
        suffix = _suffix(str(suffix), faults)
    manifest_dir = str(values["manifest-dir"])
    if not manifest_dir.startswith("/") or ".." in manifest_dir.split("/"):
        faults.append(Fault("--manifest-dir", f"{manifest_dir!r} where an absolute path without .. was expected"))
    cluster_id = values["cluster-id"]
    if cluster_id is not None and not is_dns_name(str(cluster_id)):
        faults.append(Fault("--cluster-id", f"{cluster_id!r} where a DNS name in lower case was expected"))
    unit = str(values["kubelet-unit"])
    if unit != "none" and not re.fullmatch(r"[A-Za-z0-9:_.\\@-]+\.service", unit):
        faults.append(
            Fault("--kubelet-unit", f"{unit!r} where a unit such as kubelet.service, or none, was expected")
        )
    gate_timeout, names_timeout = values["kubelet-gate-timeout"], values["etcd-names-timeout"]
    assert isinstance(gate_timeout, float) and isinstance(names_timeout, float)
    unit_name = None if unit == "none" else unit
    folder = manifest_dir.rstrip("/") or "/"
    templates = load_templates(None if values["template-dir"] is None else str(values["template-dir"]), faults)
    master, control_plane = bool(values["master"]), bool(values["control-plane"])
    if control_plane and not master:
        faults.append(Fault("--control-plane", "true without --master (expected: both, or neither)"))
    api = None if values["api"] is None else str(values["api"])
    if api is not None and master:
        faults.append(Fault("--api", f"{api!r} with --master (expected: without; a control plane has its own)"))
    if api is not None and not re.fullmatch(r"https://[^/?#\s]+", api):
        faults.append(Fault("--api", f"{api!r} where a URL such as https://api.example.com:6443 was expected"))
    kubelet = _kubelet(section)
    runs_components = control_plane or api is not None
    components, port = _components(section, kubelet.get("version"), folder, needed=runs_components)
    backup = backup_settings(section, faults, store_shared=values["store"] is not None)
    return NodeConfig(
        master=master,
        control_plane=control_plane,
        volumes=VolumeSettings(None if cluster_id is None else str(cluster_id), frozenset(templates)),
        disks=DiskSettings(may_format=not values["no-format"], layouts=templates, dns_suffix=suffix),
        etcd=EtcdSettings(
            templates=templates,
            image=etcd_image(section, None if values["etcd-image"] is None else str(values["etcd-image"]), faults),
            assume_new=bool(values["etcd-bootstrap"]),
            manifest_dir=folder,
            names_patience=names_timeout,
            dns_suffix=suffix,
            kubelet_unit=unit_name,
            tls=_etcd_tls(str(values["etcd-tls"]), templates, faults),
            store_shared=values["store"] is not None,
            takes_backups=backup.every is not None,
            quota=etcd_quota(section, templates, faults),
            node_clients=node_clients(str(values["etcd-clients-listen"]), str(values["etcd-tls"]), templates, faults),
        ),
        backup=backup,
        pki=PkiSettings(trust_clock=bool(values["trust-clock"])),
        dns=DnsSettings(
            suffix=suffix, adopt=bool(values["dns-adopt"]), removals=_count(section, "dnsRemovals", 2, faults)
        ),
        kubelet=KubeletSettings(
            unit=unit_name,
            is_kubelet=unit_name != AGENT_UNIT,
            gate_timeout=gate_timeout,
            restarts_per_hour=_count(section, "kubeletRestartsPerHour", 6, faults),
            manifest_dir=folder,
            master=master,
            control_plane=control_plane,
            api_port=port,
            api=api,
            cluster_dns=_cluster_dns(components) if runs_components else None,
            **kubelet,
        ),
        components=components,
        addons=_addons(section, faults),
    )


def _kubelet(section: Section | None) -> dict[str, Any]:
    """kubelet's own settings. What reads them knows all of kubelet's: it is loaded where there are any."""
    if section is None or not section.items.keys() & set(KUBELET_KEYS):
        return {}
    from protokube.config.kubelet import read_kubelet

    return read_kubelet(section)


def _components(
    section: Section | None, version: str | None, manifest_dir: str, *, needed: bool
) -> tuple[ControlPlaneSettings | None, int]:
    """The control plane's settings, and the port of its API. The same holds for what reads these."""
    if not needed and not _names_components(section):
        return None, API_PORT
    from protokube.config.controlplane import read_control_plane
    from protokube.core.controlplane.node import api_port

    components = read_control_plane(section, version, manifest_dir)
    return components, api_port(components)


def _addons(section: Section | None, faults: list[Fault]) -> tuple[ChannelSource, ...]:
    if section is None or ADDONS not in section.items:
        return ()
    from protokube.config.addons import read_addons

    return read_addons(section, faults)


def _cluster_dns(components: ControlPlaneSettings | None) -> tuple[str, str] | None:
    return (components.networking.cluster_dns, components.networking.domain) if components is not None else None


def _names_components(section: Section | None) -> bool:
    if section is None:
        return False
    groups = section.items.get("instanceGroups")
    named = groups.value.values() if groups is not None and isinstance(groups.value, dict) else ()
    inner = (key for group in named if isinstance(group.value, dict) for key in group.value)
    return bool(section.items.keys() & set(CONTROL_PLANE_KEYS)) or any(key in COMPONENT_KEYS for key in inner)


def _etcd_tls(when: str, templates: Mapping[str, EtcdTemplate], faults: list[Fault]) -> Literal["auto", "on", "off"]:
    if when == "on" and not all(template.supports_tls for template in templates.values()):
        faults.append(Fault("--etcd-tls", "on, and the manifest.yaml of --template-dir has no part with $if: tls"))
    return "on" if when == "on" else "off" if when == "off" else "auto"


def _suffix(suffix: str, faults: list[Fault]) -> str:
    dotted = "." + suffix.strip(".")
    if not is_dns_name(dotted[1:]):
        faults.append(
            Fault(
                "--dns-internal-suffix", f"{suffix!r} where a DNS suffix such as .internal.example.com was expected"
            )
        )
    return dotted


def _count(section: Section | None, key: str, default: int, faults: list[Fault]) -> int:
    item = section.get(key) if section else None
    if item is None:
        return default
    if type(item.value) is int and item.value >= 1:
        return item.value
    faults.append(item.expected("a whole number from 1"))
    return default


def _flag(section: Section | None, key: str, faults: list[Fault]) -> bool:
    item = section.get(key) if section else None
    if item is not None and not isinstance(item.value, bool):
        faults.append(item.expected("true or false"))
    return item is not None and item.value is True


def shipped(folder: str) -> Traversable:
    """A folder that ships with the program: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parent.parent
    for place in (package / folder, package.parent / folder):
        if place.is_dir():
            return place
    from importlib import resources  # 5 ms and more, which only a zipapp has to pay

    return resources.files("protokube").joinpath(folder)


def load_templates(directory: str | None, faults: list[Fault]) -> dict[str, EtcdTemplate]:
    """The etcd templates by etcd cluster: `manifest.yaml` and one `<key>.yaml` each; main and events at least."""
    folder: Traversable = Path(directory) if directory else shipped("templates").joinpath("etcd")
    try:
        texts = {
            entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8")
            for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
            if entry.name.endswith(".yaml")
        }
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault(str(folder), f"the templates can't be read: {error}"))
        return {}
    missing = [name for name in ("manifest", "main", "events") if name not in texts]
    faults += [Fault(f"{folder}/{name}.yaml", "the template is missing") for name in missing]
    if missing:
        return {}
    pod = texts.pop("manifest")
    faults += check_pod(f"{folder}/manifest.yaml", pod)
    templates: dict[str, EtcdTemplate] = {}
    for key, text in texts.items():
        template = parse_template(key, f"{folder}/{key}.yaml", text, pod)
        if isinstance(template, EtcdTemplate):
            templates[key] = template
        else:
            faults += template
    return templates
