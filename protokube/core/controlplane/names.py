"""What the control plane's parts are called, and which node has an API server: known without their tables."""

from __future__ import annotations

from protokube.core.volumes.model import MAIN, VolumesAssessment

API_SERVER = "kube-apiserver"
MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
PROXY = "kube-proxy"
COMPONENTS = (API_SERVER, MANAGER, SCHEDULER, PROXY)
"""In the order in which they are started and changed."""

API_PORT = 6443
"""The API server's port, unless its settings name another."""


def has_api_server(volumes: VolumesAssessment) -> bool:
    """Whether an API server belongs on this node: a standby without a volume of `main` has none."""
    return MAIN in volumes.ours


def api_names(cluster_id: str, suffix: str) -> tuple[str, ...]:
    """The names of the API for nodes and for people, as core/dns keeps them."""
    return f"api{suffix}".lower(), f"api.{cluster_id}".lower()
