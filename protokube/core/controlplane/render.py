"""From component configuration to a component's flags and files, for one version of Kubernetes.

Whatever would end a component at its start is refused before anything is written, all faults at once. The same input
gives the same bytes. A file's name holds a hash of its text, so that a pod and its files belong together: a pod that
is put back finds the files that it ran with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from protokube.core.component.layers import Setting, Settings
from protokube.core.component.model import Layer
from protokube.core.component.place import place_settings
from protokube.core.component.schema import NEWEST, Version, spell
from protokube.core.component.text import document
from protokube.core.controlplane.certificates import needed_by
from protokube.core.controlplane.layers import Configured, ours, read_layers
from protokube.core.controlplane.model import ControlPlaneSettings, NodeOfControlPlane
from protokube.core.controlplane.names import API_SERVER, PROXY, SCHEDULER
from protokube.core.controlplane.own import own_settings
from protokube.core.controlplane.paths import configuration_dir
from protokube.core.controlplane.reachable import HEALTH_PATHS, unreachable_faults
from protokube.core.controlplane.relations import relation_faults
from protokube.core.controlplane.schemas import component_schema, file_schema
from protokube.core.controlplane.versions import ANONYMOUS_PATHS, file_api, scheduler_api
from protokube.core.model import Fault

_FLAG_OF_FILE = {
    "authenticationConfig": "authenticationConfigFile",
    "authorizationConfig": "authorizationConfigFile",
    "admissionConfig": "admissionControlConfigFile",
    "egressSelectorConfig": "egressSelectorConfigFile",
    "tracingConfig": "tracingConfigFile",
    "auditPolicy": "auditPolicyFile",
}
# A component that is told by both a file and these flags ends at its start.
_EXCLUDED = {
    "authenticationConfig": ("oidc",),
    "authorizationConfig": ("authorizationMode", "authorizationPolicyFile", "authorizationWebhook"),
}


class Rendered(Struct, frozen=True):
    """A component as it is to be started: its flags, sorted, its files, by path, and the names of its certificates.
    `settings` are all in force."""

    component: str
    flags: tuple[str, ...]
    files: Mapping[str, str]
    settings: Settings
    notes: tuple[str, ...] = ()
    certificates: frozenset[str] = frozenset()


def render(
    component: str,
    given: ControlPlaneSettings,
    node: NodeOfControlPlane,
    version: Version,
    layers: Sequence[Layer],
) -> Rendered | tuple[Fault, ...]:
    """Render a component for this node, or return every fault of its configuration. `layers`: the lowest first."""
    configured = read_layers(component, layers, version)
    own = own_settings(component, given, node, version, configured)
    faults = [*configured.faults, *relation_faults(component, configured.settings)]
    notes = list(_version_notes(component, version))
    files = dict(configured.files)
    if component == API_SERVER:
        faults += (*_exclusions(configured), *unreachable_faults(configured))
        notes += _close_to_the_anonymous(configured, files, version)
    texts: dict[str, str] = {}
    flags: dict[str, object] = {}
    for key, values in files.items():
        inner = place_settings(file_schema(key), version, values, None)
        faults += inner.faults
        notes += inner.notes
        text = document(file_api(key, version), file_schema(key).component, inner.tree)
        flags[_FLAG_OF_FILE[key]] = _put(texts, component, key, text)
    settings = ours(own.defaults) | dict(configured.settings) | ours(own.fixed) | ours(flags)
    placed = place_settings(component_schema(component), version, settings, None)
    faults += placed.faults
    # People can't change what protokube sets, deprecated or not.
    notes += [note for note in placed.notes if settings[note.partition(":")[0]].place != "protokube"]
    args = placed.flags
    if component in (SCHEDULER, PROXY):
        path = _put(texts, component, "config", _own_file(component, version, placed.tree))
        args = tuple(sorted((*args, f"--config={path}")))
    if faults:
        return tuple(dict.fromkeys(faults))
    etcd_tls = any(one.url.startswith("https:") for one in node.etcd)
    return Rendered(component, args, texts, settings, tuple(notes), needed_by(component, etcd_tls=etcd_tls))


def _put(texts: dict[str, str], component: str, name: str, text: str) -> str:
    """Add a file's text; its path."""
    path = f"{configuration_dir(component)}/{name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}.yaml"
    texts[path] = text
    return path


def _own_file(component: str, version: Version, tree: Mapping[str, object]) -> str:
    if component == SCHEDULER:
        return document(scheduler_api(version), "KubeSchedulerConfiguration", tree)
    return document("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration", tree)


def _version_notes(component: str, version: Version) -> Iterator[str]:
    if version[:2] > NEWEST[:2]:
        newest = f"{spell(NEWEST)}, the newest one known"
        yield f"{component} {spell(version)} is newer than {newest}; rendered as for that"


def _exclusions(configured: Configured) -> Iterator[Fault]:
    for key, prefixes in _EXCLUDED.items():
        if key not in configured.files:
            continue
        for name, setting in configured.settings.items():
            if name.startswith(prefixes):
                yield Fault(setting.place, f"can't be set beside {key}; say it there")
    if "anonymousAuth" in configured.settings and _says_anonymous(configured.files):
        place = configured.settings["anonymousAuth"].place
        yield Fault(place, "can't be set beside authenticationConfig.anonymous; say it there")


def _says_anonymous(files: Mapping[str, Settings]) -> bool:
    return any(name.startswith("anonymous.") for name in files.get("authenticationConfig", {}))


def _close_to_the_anonymous(configured: Configured, files: dict[str, Settings], version: Version) -> Iterator[str]:
    """Leave nothing but the health paths to the anonymous, where the version can; return a note where it can't.

    Probes and load balancers have no certificate.
    """
    if "anonymousAuth" in configured.settings or _says_anonymous(files):
        return
    if version[:2] < ANONYMOUS_PATHS:
        yield "anonymous access is on: before 1.32 it can't be left to the health paths alone"
        return
    if any(name.startswith("oidc") for name in configured.settings):
        yield "anonymous access is on: beside oidc flags it can't be limited; see authenticationConfig.jwt"
        return
    limits: dict[str, Setting] = ours(
        {"anonymous.enabled": True, "anonymous.conditions": [{"path": path} for path in HEALTH_PATHS]}
    )
    files["authenticationConfig"] = {**files.get("authenticationConfig", {}), **limits}
