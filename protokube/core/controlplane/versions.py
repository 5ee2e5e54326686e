"""What depends on the version of Kubernetes: the versions of configuration files.

Sources: the API servers' and schedulers' own schemes (KubeSchedulerConfiguration v1beta1 is gone since 1.23, v1beta2
since 1.28, v1beta3 since 1.29), and the files' graduations in Kubernetes's changelogs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from protokube.core.component.schema import Version

Graduations = Sequence[tuple[tuple[int, int], str]]
"""The first minor version, and the version of the file that it reads; the newest first."""

_SCHEDULER: Graduations = (((1, 25), "v1"), ((1, 23), "v1beta3"), ((1, 22), "v1beta2"), ((1, 20), "v1beta1"))
_API_SERVER = "apiserver.config.k8s.io"
_FILES: Mapping[str, tuple[str, Graduations]] = {
    "authenticationConfig": (_API_SERVER, (((1, 34), "v1"), ((1, 30), "v1beta1"), ((1, 29), "v1alpha1"))),
    "authorizationConfig": (_API_SERVER, (((1, 32), "v1"), ((1, 30), "v1beta1"), ((1, 29), "v1alpha1"))),
    "admissionConfig": (_API_SERVER, (((1, 20), "v1"),)),
    "egressSelectorConfig": (_API_SERVER, (((1, 20), "v1beta1"),)),
    "tracingConfig": (_API_SERVER, (((1, 34), "v1"), ((1, 27), "v1beta1"), ((1, 20), "v1alpha1"))),
    "auditPolicy": ("audit.k8s.io", (((1, 20), "v1"),)),
}

ANONYMOUS_PATHS = (1, 32)
"""Since then anonymous access can be left to single paths (kubernetes, AnonymousAuthConfigurableEndpoints)."""

SCHEDULER_PROBES = (1, 32)
"""Since then the scheduler answers /livez and /readyz (kubeadm, app/util/staticpod)."""

PROXY_LIVEZ = (1, 28)
"""Since then kube-proxy answers /livez; /healthz also fails while the node is being deleted."""


def scheduler_api(version: Version) -> str:
    """The apiVersion of KubeSchedulerConfiguration."""
    return f"kubescheduler.config.k8s.io/{_of(_SCHEDULER, version)}"


def file_api(key: str, version: Version) -> str:
    """The apiVersion of a file that kube-apiserver reads."""
    group, graduations = _FILES[key]
    return f"{group}/{_of(graduations, version)}"


def _of(graduations: Graduations, version: Version) -> str:
    return next((api for first, api in graduations if version[:2] >= first), graduations[-1][1])
