"""From options and file to the configuration that decisions know. What reads a component is loaded where it is asked
for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from protokube.config.backup import backup_settings
from protokube.config.etcd import etcd_image, etcd_quota, node_clients
from protokube.config.keys import ADDONS, COMPONENT_KEYS, CONTROL_PLANE_KEYS, GROUPS, KUBELET_KEYS, NODES
from protokube.config.options import Value
from protokube.config.templates import load_templates
from protokube.core.controlplane.names import API_PORT
from protokube.core.disks.model import DiskSettings
from protokube.core.dns.model import DnsSettings
from protokube.core.etcd.model import EtcdSettings, EtcdTemplate
from protokube.core.kubelet.model import KubeletSettings
from protokube.core.located import Section
from protokube.core.model import Fault
from protokube.core.node.model import AGENT_UNIT
from protokube.core.pki.model import PkiSettings
from protokube.core.settings import NodeConfig
from protokube.core.volumes.model import VolumeSettings
from protokube.core.volumes.tags import is_dns_name

if TYPE_CHECKING:
    from protokube.core.controlplane.model import ControlPlaneSettings
    from protokube.core.objects.model import ChannelSource


def node_config(values: Mapping[str, Value | None], section: Section, faults: list[Fault]) -> NodeConfig:
    """What the decisions need of the options' values and the file. Templates are read from their directory."""
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
        faults.append(Fault("--control-plane", "true without --master (expected: --master, too)"))
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
        dns=DnsSettings(suffix=suffix, adopt=bool(values["dns-adopt"]), removals=section.count("dnsRemovals", 2)),
        kubelet=KubeletSettings(
            unit=unit_name,
            is_kubelet=unit_name != AGENT_UNIT,
            gate_timeout=gate_timeout,
            restarts_per_hour=section.count("kubeletRestartsPerHour", 6),
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


def _kubelet(section: Section) -> dict[str, Any]:
    """kubelet's own settings. What reads them knows all of kubelet's: it is loaded where there are any."""
    if not section.items.keys() & set(KUBELET_KEYS):
        return {}
    from protokube.config.kubelet import read_kubelet

    return read_kubelet(section)


def _components(
    section: Section, version: str | None, manifest_dir: str, *, needed: bool
) -> tuple[ControlPlaneSettings | None, int]:
    """The control plane's settings, and the port of its API. The same holds for what reads these."""
    if not needed and not _names_components(section):
        return None, API_PORT
    from protokube.config.controlplane import read_control_plane
    from protokube.core.controlplane.node import api_port

    components = read_control_plane(section, version, manifest_dir)
    return components, api_port(components)


def _addons(section: Section, faults: list[Fault]) -> tuple[ChannelSource, ...]:
    if ADDONS not in section.items:
        return ()
    from protokube.config.addons import read_addons

    return read_addons(section, faults)


def _cluster_dns(components: ControlPlaneSettings | None) -> tuple[str, str] | None:
    return (components.networking.cluster_dns, components.networking.domain) if components is not None else None


def _names_components(section: Section) -> bool:
    found = (section.items.get(key) for key in (GROUPS, NODES))
    named = (
        one for each in found if each is not None and isinstance(each.value, dict) for one in each.value.values()
    )
    inner = (key for one in named if isinstance(one.value, dict) for key in one.value)
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
