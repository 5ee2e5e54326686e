"""The objects of a first start, each with its reason. Roles named `system:…` are made by the API server itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from protokube.core.component.schema import Version
from protokube.core.objects.coredns import ClusterDns, coredns
from protokube.core.objects.model import BOOTSTRAPPERS, Manifest, ObjectWanted

RBAC = "rbac.authorization.k8s.io"
SIGNING = "system:certificates.k8s.io:certificatesigningrequests"
KUBELET_CLIENT = "kube-apiserver-kubelet-client"
"""The user that the API server is to kubelet."""
CLUSTER_INFO = "cluster-info"
_LABELS = {"app.kubernetes.io/managed-by": "protokube"}
_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
_MASTER = "node-role.kubernetes.io/master"
CONTROL_PLANE_ROLES = (_CONTROL_PLANE, _MASTER)
"""The labels, and the taints, of the control plane's nodes."""


class ObjectsInput(Struct, frozen=True):
    """What decides the objects: this node's name, the API server's URL and authorities (base64), the version, and the
    cluster's DNS; None where another hand makes it."""

    node: str
    api: str
    ca: str
    version: Version | None = None
    dns: ClusterDns | None = None


def wanted_objects(given: ObjectsInput) -> tuple[ObjectWanted, ...]:
    """All objects, in an order in which each finds what it needs."""
    dns = () if given.dns is None else coredns(given.dns)
    return (*_access(), *_cluster_info(given), *dns, _own_node(given))


def _access() -> Iterator[ObjectWanted]:
    yield _bound(
        "protokube:kubelet-bootstrap",
        "system:node-bootstrapper",
        _group(BOOTSTRAPPERS),
        "a machine with a bootstrap token may ask for its first certificate",
    )
    yield _bound(
        "protokube:approve-renewals",
        f"{SIGNING}:selfnodeclient",
        _group("system:nodes"),
        "the controller manager approves that a node renews its own client certificate",
    )
    yield _bound(
        "protokube:api-server-to-kubelet",
        "system:kubelet-api-admin",
        _user(KUBELET_CLIENT),
        "the API server reads logs and runs commands in pods by way of kubelet",
    )
    yield _bound(
        "protokube:kube-proxy",
        "system:node-proxier",
        _user("system:kube-proxy"),
        "kube-proxy reads Services and their endpoints",
        _group("system:nodes"),
    )


def _cluster_info(given: ObjectsInput) -> Iterator[ObjectWanted]:
    """What kubeadm's discovery reads. The controller manager signs it for each bootstrap token."""
    reason = "machines that know a bootstrap token find the cluster's API server and authorities there"
    text = (
        'apiVersion: v1\nkind: Config\nclusters:\n  - name: ""\n    cluster:\n'
        f"      server: {given.api}\n      certificate-authority-data: {given.ca}\n"
    )
    config = _object("v1", "ConfigMap", CLUSTER_INFO, "kube-public")
    yield ObjectWanted({**config, "data": {"kubeconfig": text}}, reason)
    role = _object(f"{RBAC}/v1", "Role", "protokube:cluster-info", "kube-public")
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [CLUSTER_INFO], "verbs": ["get"]}
    yield ObjectWanted({**role, "rules": [rule]}, reason)
    binding = _object(f"{RBAC}/v1", "RoleBinding", "protokube:cluster-info", "kube-public")
    ref = {"apiGroup": RBAC, "kind": "Role", "name": "protokube:cluster-info"}
    yield ObjectWanted({**binding, "roleRef": ref, "subjects": [_user("system:anonymous")]}, reason)


def _own_node(given: ObjectsInput) -> ObjectWanted:
    """kubelet may not give itself labels of node-role.kubernetes.io (NodeRestriction)."""
    labels = {_CONTROL_PLANE: "", "node.kubernetes.io/exclude-from-external-load-balancers": ""}
    if given.version is not None and given.version < (1, 24, 0):
        labels[_MASTER] = ""  # what selectors of that time look for
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": given.node, "labels": labels}}
    return ObjectWanted(node, "it is a control-plane node", only_present=True)


def _bound(name: str, role: str, subject: Mapping[str, str], reason: str, *others: Mapping[str, str]) -> ObjectWanted:
    """A cluster role that is given to users and groups."""
    binding = _object(f"{RBAC}/v1", "ClusterRoleBinding", name)
    ref = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
    return ObjectWanted({**binding, "roleRef": ref, "subjects": [subject, *others]}, reason)


def _object(api_version: str, kind: str, name: str, namespace: str = "") -> Manifest:
    place = {"namespace": namespace} if namespace else {}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **place, "labels": dict(_LABELS)}}


def _group(name: str) -> Mapping[str, str]:
    return {"apiGroup": RBAC, "kind": "Group", "name": name}


def _user(name: str) -> Mapping[str, str]:
    return {"apiGroup": RBAC, "kind": "User", "name": name}
