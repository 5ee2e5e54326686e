"""From component configuration to a component's flags and files, for one version of Kubernetes.

Whatever would end a component at its start is refused before anything is written, all faults at once. The same input
gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from protokube.core.component.layers import Setting, Settings
from protokube.core.component.model import Layer
from protokube.core.component.place import place_settings
from protokube.core.component.schema import NEWEST, Version, spell
from protokube.core.component.text import document
from protokube.core.controlplane.layers import Configured, ours, read_layers, value_of
from protokube.core.controlplane.model import ControlPlaneSettings, NodeOfControlPlane
from protokube.core.controlplane.own import own_settings
from protokube.core.controlplane.paths import configuration_dir
from protokube.core.controlplane.schemas import API_SERVER, PROXY, SCHEDULER, component_schema, file_schema
from protokube.core.controlplane.versions import ANONYMOUS_PATHS, file_api, scheduler_api
from protokube.core.model import Fault

HEALTH_PATHS = ("/livez", "/readyz", "/healthz")
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
    """A component as it is to be started: its flags, sorted, and its files, by path. `settings` are all in force."""

    component: str
    flags: tuple[str, ...]
    files: Mapping[str, str]
    settings: Settings
    notes: tuple[str, ...] = ()


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
    faults, notes = list(configured.faults), list(_version_notes(component, version))
    files = dict(configured.files)
    if component == API_SERVER:
        faults += _exclusions(configured)
        notes += _close_to_the_anonymous(configured, files, version)
    paths = {key: f"{configuration_dir(component)}/{key}.yaml" for key in files}
    settings = ours(own.defaults) | dict(configured.settings) | ours(own.fixed)
    settings |= ours({_FLAG_OF_FILE[key]: path for key, path in paths.items()})
    placed = place_settings(component_schema(component), version, settings, None)
    faults += placed.faults
    # People can't change what protokube sets, deprecated or not.
    notes += [note for note in placed.notes if settings[note.partition(":")[0]].place != "protokube"]
    texts: dict[str, str] = {}
    for key, values in files.items():
        inner = place_settings(file_schema(key), version, values, None)
        faults += inner.faults
        notes += inner.notes
        texts[paths[key]] = document(file_api(key, version), file_schema(key).component, inner.tree)
    if component in (SCHEDULER, PROXY):
        texts[str(value_of(settings, "config"))] = _own_file(component, version, placed.tree)
    if faults:
        return tuple(dict.fromkeys(faults))
    return Rendered(component, placed.flags, texts, settings, tuple(notes))


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
