"""etcd's static pods: templates on parsed YAML, and the manifest of a member.

Placeholders are filled scalar by scalar on the parsed document, so a value can never change its structure. The
result is deterministic to the byte: kubelet restarts a static pod whenever its manifest changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import yaml

from protokube.core.disks.ownership import WRITTEN_BY_US
from protokube.core.etcd.model import EtcdTemplate, InitialState
from protokube.core.etcd.tls import peer_certificate, peers_name, server_certificate
from protokube.core.model import Fault
from protokube.core.pki.model import CURRENT, PKI_DIR, directory_of
from protokube.core.static_pod import image_version
from protokube.core.untrusted_yaml import load
from protokube.core.volumes.model import EtcdMember

CONDITION = "$if"

_REMEMBERED = 32
"""Results that are kept of pure but slow functions: a converged reconcile parses and renders nothing again."""

_PLACEHOLDER = re.compile(r"\$\{([a-z_]+)\}")
_CONDITIONS = frozenset({"livez", "no-livez", "hosts", "tls", "quota", "local-clients", "node-clients"})
_PLACEHOLDERS = frozenset(
    {
        "pod_name",
        "image",
        "member_name",
        "data_dir",
        "peer_listen",
        "client_listen",
        "peer_port",
        "client_port",
        "dns_name",
        "initial_cluster_state",
        "initial_cluster",
        "cluster_name",
        "cpu_request",
        "mount_point",
    }
)
_TLS_PLACEHOLDERS = frozenset(
    {"scheme", "probe_port", "metrics_port", "server_pki", "peer_pki", "peers_name", "trusted"}
)
"""A template of an operator that knows none of these is one without TLS."""
_OWN_MOUNTS = frozenset({"server_mount", "peer_mount"})
_MOUNTS = _OWN_MOUNTS | {"pki"}
"""What a template with TLS mounts: the directories of its two certificates, or the one with all of the node's."""
_QUOTA_PLACEHOLDERS = frozenset({"quota"})
_CLIENTS_PLACEHOLDERS = frozenset({"node_address"})
_FIELDS: Mapping[str, tuple[str, type]] = {
    "clusterName": ("cluster_name", str),
    "podName": ("pod_name", str),
    "clientPort": ("client_port", int),
    "peerPort": ("peer_port", int),
    "dataDir": ("data_dir", str),
    "cpuRequest": ("cpu_request", str),
    "metricsPort": ("metrics_port", int),
}
_OPTIONAL = {"metricsPort": 0}
_PORTS = ("clientPort", "peerPort", "metricsPort")
_HEADER = f"{WRITTEN_BY_US}, which keeps it; changes made here are undone.\n"
_loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def parse_template(key: str, place: str, text: str, pod: str) -> EtcdTemplate | tuple[Fault, ...]:
    """Read and check `<key>.yaml`; return all its faults at once. `place` names the file in messages."""
    data, faults = _load(place, text)
    if faults:
        return faults
    if not isinstance(data, dict):
        return (Fault(place, f"expected a mapping, found {data!r}"),)
    found = [
        Fault(place, f"unknown key {key!r}, expected {', '.join(_FIELDS)}") for key in data if key not in _FIELDS
    ]
    given = frozenset(data)
    conditions = _conditions(pod)
    supports_tls = "tls" in conditions
    if not supports_tls:
        data = _OPTIONAL | data
    for name, (_, kind) in _FIELDS.items():
        if type(data.get(name)) is not kind:
            expected = "a whole number" if kind is int else "a text"
            found.append(Fault(place, f"{name} is {data.get(name)!r}, expected {expected}"))
    data_dir = data.get("dataDir")
    if isinstance(data_dir, str) and not re.fullmatch(r"[a-z0-9-]+(/[a-z0-9-]+)*", data_dir):
        found.append(Fault(place, f"dataDir is {data_dir!r}, expected a relative path of plain names"))
    found += [
        Fault(place, f"{name} is {data[name]}, expected a port from 1 to 65535")
        for name in _PORTS
        if name in given and type(data.get(name)) is int and not 0 < data[name] < 1 << 16
    ]
    expected_name = "etcd" if key == "main" else f"etcd-{key}"
    if data.get("clusterName") != expected_name:
        found.append(Fault(place, f"clusterName is {data.get('clusterName')!r}, expected {expected_name}, as in DNS"))
    if found:
        return tuple(found)
    fields: dict[str, Any] = {field: data[name] for name, (field, _) in _FIELDS.items()}
    return EtcdTemplate(
        key=key,
        pod=pod,
        supports_tls=supports_tls,
        supports_quota="quota" in conditions,
        supports_node_clients="node-clients" in conditions,
        **fields,
    )


def check_pod(place: str, text: str) -> tuple[Fault, ...]:
    """Check manifest.yaml: a v1 Pod that uses every placeholder, and no unknown placeholder or condition."""
    pod, faults = _load(place, text)
    if faults:
        return faults
    used: set[str] = set()
    conditions: set[str] = set()
    _collect(pod, used, conditions)
    known = _PLACEHOLDERS | _TLS_PLACEHOLDERS | _MOUNTS | _QUOTA_PLACEHOLDERS | _CLIENTS_PLACEHOLDERS
    found = [
        Fault(place, f"unknown placeholder ${{{name}}}, expected {_names(known)}") for name in sorted(used - known)
    ]
    found += [Fault(place, f"the placeholder ${{{name}}} is not used") for name in sorted(_PLACEHOLDERS - used)]
    if "tls" in conditions:
        unused = sorted((_TLS_PLACEHOLDERS if "pki" in used else _TLS_PLACEHOLDERS | _OWN_MOUNTS) - used)
        found += [Fault(place, f"the placeholder ${{{name}}} is not used, and $if: tls is") for name in unused]
    if "quota" in conditions and "quota" not in used:
        found.append(Fault(place, "the placeholder ${quota} is not used, and $if: quota is"))
    if "node-clients" in conditions and "node_address" not in used:
        found.append(Fault(place, "the placeholder ${node_address} is not used, and $if: node-clients is"))
    found += [
        Fault(place, f"unknown condition {name!r}, expected {_names(_CONDITIONS)}")
        for name in sorted(conditions - _CONDITIONS)
    ]
    if not isinstance(pod, dict) or pod.get("kind") != "Pod" or pod.get("apiVersion") != "v1":
        found.append(Fault(place, "expected a v1 Pod"))
    return tuple(found)


@lru_cache(maxsize=_REMEMBERED)
def _conditions(pod: str) -> frozenset[str]:
    """The conditions that a pod's text uses; none when it is no YAML."""
    conditions: set[str] = set()
    _collect(_load("", pod)[0], set(), conditions)
    return frozenset(conditions)


@lru_cache(maxsize=_REMEMBERED)
def _pod(text: str) -> object:
    return yaml.load(text, Loader=_loader)


@lru_cache(maxsize=_REMEMBERED)
def render_manifest(
    template: EtcdTemplate,
    member: EtcdMember,
    *,
    mount_point: str,
    dns_suffix: str,
    image: str,
    state: InitialState,
    hosts: bool,
    initial_cluster: str | None = None,
    tls: bool = False,
    trusted: str = "",
    quota: int | None = None,
    clients: str = "",
) -> str:
    """Render a member's manifest. `dns_suffix` starts with a dot; `hosts` mounts the node's hosts file, `tls` the
    node's certificates. `trusted` names the authorities that the process is started with. `quota` is its database's,
    in bytes. `clients` is the node's address where it listens to clients beside 127.0.0.1; empty for nowhere else.

    `initial_cluster` replaces the list of the member's tag, for a member that joins a running cluster.
    """

    def dns_name(name: str) -> str:
        return template.member_name(name) + dns_suffix

    scheme = "https" if tls else "http"
    server = f"{PKI_DIR}/{directory_of(server_certificate(template.key))}"
    peer = f"{PKI_DIR}/{directory_of(peer_certificate(template.key))}"
    values: dict[str, str | int] = {
        "scheme": scheme,
        "probe_port": template.metrics_port if tls else template.client_port,
        "metrics_port": template.metrics_port,
        "server_mount": server,
        "peer_mount": peer,
        "server_pki": f"{server}/{CURRENT}",
        "peer_pki": f"{peer}/{CURRENT}",
        "peers_name": peers_name(template, dns_suffix),
        "pki": PKI_DIR,
        "trusted": trusted,
        "quota": str(quota),
        "pod_name": template.pod_name,
        "image": image,
        "member_name": template.member_name(member.me),
        "data_dir": template.data_dir,
        "peer_listen": "0.0.0.0",
        "client_listen": "127.0.0.1",
        "node_address": f"[{clients}]" if ":" in clients else clients,
        "peer_port": template.peer_port,
        "client_port": template.client_port,
        "dns_name": dns_name(member.me),
        "initial_cluster_state": state,
        "initial_cluster": initial_cluster
        or ",".join(
            f"{template.member_name(name)}={scheme}://{dns_name(name)}:{template.peer_port}"
            for name in member.members
        ),
        "cluster_name": template.cluster_name,
        "cpu_request": template.cpu_request,
        "mount_point": mount_point,
    }
    conditions = {"livez" if has_livez(image) else "no-livez"}
    conditions |= ({"hosts"} if hosts else set()) | ({"tls"} if tls else set())
    conditions.add("node-clients" if clients else "local-clients")
    conditions |= {"quota"} if quota is not None else set()
    pod = _fill(_pod(template.pod), values, conditions)
    return _HEADER + yaml.dump(pod, Dumper=_dumper, sort_keys=False, default_flow_style=False, width=1000)


def has_livez(image: str) -> bool:
    """Whether the image's etcd answers /livez, as 3.4.29, 3.5.11 and 3.6 on do (etcd's changelogs)."""
    version = image_version(image)
    if version is None:
        return False
    first = {(3, 4): 29, (3, 5): 11}.get(version[:2])
    return version[2] >= first if first is not None else version >= (3, 6, 0)


def _load(place: str, text: str) -> tuple[object, tuple[Fault, ...]]:
    try:
        return load(text), ()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{place}:{mark.line + 1}" if mark else place
        return None, (Fault(line, f"no YAML: {getattr(error, 'problem', None) or error}"),)


def _names(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _collect(node: object, used: set[str], conditions: set[str]) -> None:
    if isinstance(node, str):
        used |= set(_PLACEHOLDER.findall(node))
    elif isinstance(node, list):
        for item in node:
            _collect(item, used, conditions)
    elif isinstance(node, dict):
        if CONDITION in node:
            conditions.add(str(node[CONDITION]))
        for value in node.values():
            _collect(value, used, conditions)


def _left_out(node: object, conditions: set[str]) -> bool:
    return isinstance(node, dict) and CONDITION in node and node[CONDITION] not in conditions


def _fill(node: object, values: Mapping[str, str | int], conditions: set[str]) -> object:
    if isinstance(node, str):
        if whole := _PLACEHOLDER.fullmatch(node):
            return values[whole[1]]
        return _PLACEHOLDER.sub(lambda match: str(values[match[1]]), node)
    if isinstance(node, list):
        return [_fill(item, values, conditions) for item in node if not _left_out(item, conditions)]
    if isinstance(node, dict):
        return {
            key: _fill(value, values, conditions)
            for key, value in node.items()
            if key != CONDITION and not _left_out(value, conditions)
        }
    return node
