"""The static pods of the control plane.

Their shape is kubeadm's: probes, ports, priorities (kubeadm, phases/controlplane and app/util/staticpod). And:

- The security contexts take away every capability that isn't needed. A root without CAP_DAC_OVERRIDE still reads
  root's own files, so that keys stay 0600.
- Directories are mounted, never files: certificates are exchanged by a link in their directory, and a mounted file
  would stay the old one. A pod sees the certificates that it shows and trusts, and no other key of the node.

A pod names no object of the API: kubelet refuses that of static pods since 1.34. The same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from msgspec import Struct

from protokube.core.component.schema import Version
from protokube.core.component.text import document
from protokube.core.controlplane.images import image
from protokube.core.controlplane.layers import value_of
from protokube.core.controlplane.model import Images
from protokube.core.controlplane.names import API_SERVER, MANAGER, PROXY, SCHEDULER
from protokube.core.controlplane.paths import certificate_mount, configuration_dir, kubeconfig_dir
from protokube.core.controlplane.render import Rendered
from protokube.core.controlplane.schemas import component_schema
from protokube.core.controlplane.versions import PROXY_LIVEZ, SCHEDULER_PROBES

TRUSTED = "protokube.io/trusted"
"""The annotation with a hash of the authorities and keys that a component reads at its start alone.

When these change so does the pod, and kubelet starts it again."""

LOOPBACK = "127.0.0.1"
_CPU = {API_SERVER: "250m", MANAGER: "200m", SCHEDULER: "100m", PROXY: "100m"}
_PORTS = {MANAGER: 10257, SCHEDULER: 10259, PROXY: 10256}
_PRIORITY = {"priorityClassName": "system-node-critical", "priority": 2000001000}
# Where distributions keep the authorities of the web, which OpenID issuers and webhooks may be signed by: a
# directory of links, and the directories that these lead to on Debian and its kin.
_WEB_AUTHORITIES = ("/etc/ssl/certs", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates")  # fmt: skip  # noqa: E501
_LAST_PRIVILEGED_PORT = 1023


class Mount(Struct, frozen=True):
    """A directory of the node that a pod sees at the same path."""

    name: str
    path: str
    kind: str = "Directory"
    read_only: bool = True


class Probe(Struct, frozen=True):
    """A question to a component's health, asked by kubelet from the node itself."""

    path: str
    every: int
    failures: int
    delay: int = 0


def pod(
    rendered: Rendered, version: Version, images: Images, trusted: str = "", keys: Mapping[str, str] | None = None
) -> str:
    """The text of a component's pod.

    `trusted` stands for the authorities that it reads at its start alone. `keys` are directories to mount, by their
    volumes' names, in place of those of its certificates.
    """
    component = rendered.component
    mounts = _mounts(rendered, keys or {name: certificate_mount(name) for name in rendered.certificates})
    container: dict[str, object] = {
        "name": component,
        "image": image(component, images, version),
        "imagePullPolicy": "IfNotPresent",
        "command": [component, *rendered.flags],
        "resources": {"requests": {"cpu": _CPU[component]}},
        "securityContext": _security(rendered),
        "volumeMounts": [{"name": one.name, "mountPath": one.path, "readOnly": one.read_only} for one in mounts],
        **_probes(rendered, version),
    }
    return document(
        "v1",
        "Pod",
        {
            "metadata": {
                "name": component,
                "namespace": "kube-system",
                "labels": {"component": component, "k8s-app": component, "tier": _tier(component)},
                "annotations": {TRUSTED: hashlib.sha256(trusted.encode()).hexdigest()[:32]},
            },
            "spec": {
                "hostNetwork": True,
                **_PRIORITY,
                "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [container],
                "volumes": [{"name": one.name, "hostPath": {"path": one.path, "type": one.kind}} for one in mounts],
            },
        },
    )


def _tier(component: str) -> str:
    return "node" if component == PROXY else "control-plane"


# --- health ------------------------------------------------------------------------------------------


def health_url(rendered: Rendered) -> str:
    """Where the component answers for its health, on this node."""
    scheme = "http" if rendered.component == PROXY else "https"
    host = health_host(rendered)
    path = "/livez" if rendered.component == API_SERVER else "/healthz"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{health_port(rendered)}{path}"


def health_port(rendered: Rendered) -> int:
    """The port at which the component answers for its health."""
    if rendered.component == PROXY:
        address = value_of(rendered.settings, "healthzBindAddress")
        return int(str(address).rpartition(":")[2]) if address else _PORTS[PROXY]
    port = value_of(rendered.settings, "securePort")
    return port if isinstance(port, int) else _PORTS[rendered.component]


def health_host(rendered: Rendered) -> str:
    """The address at which the component answers on this node: the loopback, unless it listens on another alone."""
    if rendered.component == PROXY:
        address = str(value_of(rendered.settings, "healthzBindAddress") or "").rpartition(":")[0].strip("[]")
    else:
        address = str(value_of(rendered.settings, "bindAddress") or "")
    return LOOPBACK if address in ("", "0.0.0.0", "::") else address


def _probes(rendered: Rendered, version: Version) -> dict[str, object]:
    live, ready = _paths(rendered.component, version)
    probes: dict[str, Probe] = {}
    if live:
        probes["livenessProbe"] = Probe(live, every=10, failures=8, delay=10)
        probes["startupProbe"] = Probe(live, every=10, failures=24, delay=10)
    if ready:
        probes["readinessProbe"] = Probe(ready, every=1, failures=3)
    return {name: _probe(rendered, probe) for name, probe in probes.items()}


def _paths(component: str, version: Version) -> tuple[str, str]:
    """The paths that tell whether a component lives, and whether it is ready; empty where it has none."""
    if component == API_SERVER:
        return "/livez", "/readyz"
    if component == SCHEDULER and version[:2] >= SCHEDULER_PROBES:
        return "/livez", "/readyz"
    if component == PROXY:
        return ("/livez" if version[:2] >= PROXY_LIVEZ else ""), ""
    return "/healthz", ""


def _probe(rendered: Rendered, probe: Probe) -> dict[str, object]:
    get: dict[str, object] = {
        "host": health_host(rendered),
        "path": probe.path,
        "port": health_port(rendered),
        "scheme": "HTTP" if rendered.component == PROXY else "HTTPS",
    }
    asked = {"httpGet": get, "periodSeconds": probe.every, "timeoutSeconds": 15, "failureThreshold": probe.failures}
    return {**asked, "initialDelaySeconds": probe.delay} if probe.delay else asked


# --- rights and directories --------------------------------------------------------------------------


def _security(rendered: Rendered) -> dict[str, object]:
    if rendered.component == PROXY:
        # It writes kernel settings below /proc/sys, which are read-only for everything else.
        return {"privileged": True}
    capabilities: dict[str, object] = {"drop": ["ALL"]}
    if health_port(rendered) <= _LAST_PRIVILEGED_PORT:
        capabilities["add"] = ["NET_BIND_SERVICE"]
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": capabilities,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsGroup": 0,
        "runAsUser": 0,
    }


def _mounts(rendered: Rendered, keys: Mapping[str, str]) -> list[Mount]:
    component = rendered.component
    # Whoever breaks into one component has its keys, and not the signing authority's or another node's.
    mounts = [Mount(name, path) for name, path in sorted(keys.items())]
    if component != API_SERVER:
        mounts.append(Mount("kubeconfig", kubeconfig_dir(component)))
    if rendered.files:
        mounts.append(Mount("configuration", configuration_dir(component)))
    if component in (API_SERVER, MANAGER):
        names = enumerate(_WEB_AUTHORITIES)
        mounts += [Mount(f"web-authorities-{at}", path, "DirectoryOrCreate") for at, path in names]
    if component == PROXY:
        # The lock by which programs that change iptables wait for one another is a file, which iptables makes itself.
        mounts.append(Mount("xtables-lock", "/run/xtables.lock", "FileOrCreate", read_only=False))
        mounts.append(Mount("modules", "/lib/modules", "DirectoryOrCreate"))
    return mounts + _named(rendered, mounts)


def _named(rendered: Rendered, mounts: list[Mount]) -> list[Mount]:
    """The directories of the files that the operator's settings name, but for those that are there already."""
    wanted: dict[str, bool] = {}
    fields = component_schema(rendered.component).fields
    for name, setting in sorted(rendered.settings.items()):
        path = str(setting.value)
        writes = "form=log" in fields[name].rules
        if (
            setting.place == "protokube"
            or not path.startswith("/")
            or not (writes or "form=path" in fields[name].rules)
        ):
            continue
        folder = path if name == "flexVolumePluginDir" else path.rpartition("/")[0] or "/"
        if not any(folder == one.path or folder.startswith(f"{one.path}/") for one in mounts):
            wanted[folder] = wanted.get(folder, False) or writes
    return [
        Mount(f"named-{at}", folder, "DirectoryOrCreate" if writes else "Directory", read_only=not writes)
        for at, (folder, writes) in enumerate(sorted(wanted.items()))
    ]
