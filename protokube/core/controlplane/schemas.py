"""The schemas of the control plane's components, and of the files that kube-apiserver reads; parsed on first use."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from protokube.core.component.schema import Schema, parse
from protokube.core.controlplane.kinds import FORMS, KINDS
from protokube.core.controlplane.names import API_SERVER, MANAGER, PROXY, SCHEDULER
from protokube.core.controlplane.tables import apiserver, files, manager, proxy, scheduler
from protokube.core.controlplane.tables.names import LISTS
from protokube.core.kubelet.names import NAMES

_POINTS = {
    "cc": "queueSort preFilter filter postFilter preScore score reserve permit preBind bind postBind",
    ".c": "preEnqueue multiPoint placementGenerate placementScore",
}
_TABLES = {API_SERVER: apiserver.TABLE, MANAGER: manager.TABLE, SCHEDULER: scheduler.TABLE, PROXY: proxy.TABLE}
_FILES = {
    "authenticationConfig": ("AuthenticationConfiguration", files.AUTHENTICATION),
    "authorizationConfig": ("AuthorizationConfiguration", files.AUTHORIZATION),
    "admissionConfig": ("AdmissionConfiguration", files.ADMISSION_CONTROL),
    "egressSelectorConfig": ("EgressSelectorConfiguration", files.EGRESS),
    "tracingConfig": ("TracingConfiguration", files.TRACING),
    "auditPolicy": ("Policy", files.AUDIT),
}
API_SERVER_FILES = tuple(_FILES)
"""The keys of kubeAPIServer that hold a whole file."""

# Names that kops's users know, and what became of them.
_FORMERLY = {
    API_SERVER: {
        "auditLogMaxBackup": "auditLogMaxBackups",
        "basicAuthFile": "basic authentication is gone since 1.19; see authenticationConfig",
        "disableBasicAuth": "basic authentication is gone since 1.19; leave it out",
        "etcdQuorumRead": "gone since 1.16; reads have quorum",
        "auditDynamicConfiguration": "gone since 1.19; see auditPolicy",
        "authorizationRBACSuperUser": "gone since 1.12; bind cluster-admin",
        "appendAdmissionPlugins": "enableAdmissionPlugins",
        "additionalServiceAccountIssuers": "serviceAccountIssuer",
        "image": "images follow kubernetesVersion; see images",
    },
    MANAGER: {"image": "images follow kubernetesVersion; see images"},
    SCHEDULER: {"image": "images follow kubernetesVersion; see images", "qps": "clientConnection.qps"},
    PROXY: {"image": "images follow kubernetesVersion; see images", "proxyMode": "mode"},
}


@cache
def component_schema(component: str) -> Schema:
    """All that a component can be told."""
    table = _TABLES[component]
    if component == SCHEDULER:
        table = "\n".join([table.strip(), *_plugin_sets()])
    lists = {**LISTS, "gates": NAMES["gates"], "suites": NAMES["suites"], "curves": NAMES["curves"]}
    lists["controllers"] = " ".join(_controllers())
    return parse(component, table, kinds=KINDS, forms=FORMS, names=lists, formerly=_FORMERLY[component])


@cache
def file_schema(key: str) -> Schema:
    """A file that kube-apiserver reads, by its key in kubeAPIServer."""
    kind, table = _FILES[key]
    return parse(kind, table, kinds=KINDS, forms=FORMS, names={**LISTS, "stages": files.STAGES})


def _plugin_sets() -> Iterator[str]:
    """The fields of the scheduler's extension points, which all have the same plugin sets."""
    for places, points in _POINTS.items():
        for point in points.split():
            for state in ("enabled", "disabled"):
                name = f"profiles[].plugins.{point}.{state}"
                yield f"{name} objects - {places} optional"
                yield f"{name}[].name string - {places}"
                yield f"{name}[].weight int32 - {places} optional 0.."


def _controllers() -> Iterator[str]:
    """Each controller may be switched off by a dash before its name, and * stands for those that are on."""
    yield "*=yy"
    for word in LISTS["controllers"].split():
        yield word
        yield f"-{word}"
