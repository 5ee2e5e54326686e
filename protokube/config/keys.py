"""The keys of the configuration file that are no options."""

from __future__ import annotations

from protokube.core.controlplane.names import API_SERVER, MANAGER, PROXY, SCHEDULER

COMPONENT_KEYS = {
    "kubeAPIServer": API_SERVER,
    "kubeControllerManager": MANAGER,
    "kubeScheduler": SCHEDULER,
    "kubeProxy": PROXY,
}
"""The keys that configure a component: in the file, in an instance group, and for a node."""

ADDONS = "addons"
CONTROL_PLANE_KEYS = ("networking", "images", *COMPONENT_KEYS)
GROUPS, NODES = "instanceGroups", "nodes"
"""The keys of layers for the nodes of a group, and for one node."""
KUBELET_KEYS = ("kubernetesVersion", "kubelet", "masterKubelet", GROUPS, NODES, "nodeLabels")

FILE_ONLY = (
    *KUBELET_KEYS,
    "dnsRemovals",
    "dnsReadEvery",
    "imdsV1",
    "kubeletRestartsPerHour",
    "etcd",
    ADDONS,
    *CONTROL_PLANE_KEYS,
)
