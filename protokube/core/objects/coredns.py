"""The cluster's DNS: CoreDNS, as kubeadm runs it (kubeadm, phases/addons/dns)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from protokube.core.objects.model import Manifest, ObjectWanted

_NAMESPACE, _NAME, _ROLE = "kube-system", "coredns", "system:coredns"
_RBAC = "rbac.authorization.k8s.io"
_LABELS = {"k8s-app": "kube-dns", "app.kubernetes.io/managed-by": "protokube"}
"""What other programs look for: CoreDNS took kube-dns's place and name."""
_SELECTOR = {"k8s-app": "kube-dns"}
_COREFILE = """\
.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    kubernetes DOMAIN in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
        max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
"""


class ClusterDns(Struct, frozen=True):
    """The cluster's DNS: its address among the services, the cluster's domain, and CoreDNS's image."""

    address: str
    domain: str
    image: str


def coredns(given: ClusterDns) -> Iterator[ObjectWanted]:
    """The objects of the cluster's DNS. Its Service and its Corefile are made once, and then the operator's."""
    reason = "pods look up Services by name"
    yield ObjectWanted(_object("v1", "ServiceAccount", _NAME, _NAMESPACE), reason)
    yield ObjectWanted({**_object(f"{_RBAC}/v1", "ClusterRole", _ROLE), "rules": _RULES}, reason)
    binding = _object(f"{_RBAC}/v1", "ClusterRoleBinding", _ROLE)
    ref = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": _ROLE}
    account = {"kind": "ServiceAccount", "name": _NAME, "namespace": _NAMESPACE}
    yield ObjectWanted({**binding, "roleRef": ref, "subjects": [account]}, reason)
    config = _object("v1", "ConfigMap", _NAME, _NAMESPACE)
    corefile = _COREFILE.replace("DOMAIN", given.domain)
    yield ObjectWanted({**config, "data": {"Corefile": corefile}}, reason, only_absent=True)
    service = _object("v1", "Service", "kube-dns", _NAMESPACE)
    ports = [_port("dns", 53, "UDP"), _port("dns-tcp", 53, "TCP"), _port("metrics", 9153, "TCP")]
    spec = {"clusterIP": given.address, "selector": _SELECTOR, "ports": ports}
    yield ObjectWanted({**service, "spec": spec}, reason, only_absent=True)
    yield ObjectWanted(_deployment(given), reason)


_RULES = [
    {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
]


def _deployment(given: ClusterDns) -> Manifest:
    template = {
        "metadata": {"labels": _SELECTOR},
        "spec": {
            "serviceAccountName": _NAME,
            "priorityClassName": "system-cluster-critical",
            "dnsPolicy": "Default",  # it would ask itself
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [
                {"key": "CriticalAddonsOnly", "operator": "Exists"},
                {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
                {"key": "node-role.kubernetes.io/master", "effect": "NoSchedule"},
            ],
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [_APART]}},
            "containers": [_container(given)],
            "volumes": [
                {"name": "config", "configMap": {"name": _NAME, "items": [{"key": "Corefile", "path": "Corefile"}]}}
            ],
        },
    }
    spec = {
        "replicas": 2,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        "selector": {"matchLabels": _SELECTOR},
        "template": template,
    }
    return {**_object("apps/v1", "Deployment", _NAME, _NAMESPACE), "spec": spec}


_APART = {
    "weight": 100,
    "podAffinityTerm": {"labelSelector": {"matchLabels": _SELECTOR}, "topologyKey": "kubernetes.io/hostname"},
}


def _container(given: ClusterDns) -> Mapping[str, Any]:
    return {
        "name": _NAME,
        "image": given.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "100m", "memory": "70Mi"}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "ports": [
            {"containerPort": 53, "name": "dns", "protocol": "UDP"},
            {"containerPort": 53, "name": "dns-tcp", "protocol": "TCP"},
            {"containerPort": 9153, "name": "metrics", "protocol": "TCP"},
        ],
        "livenessProbe": {
            "httpGet": {"path": "/health", "port": 8080, "scheme": "HTTP"},
            "initialDelaySeconds": 60,
            "timeoutSeconds": 5,
            "failureThreshold": 5,
        },
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181, "scheme": "HTTP"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }


def _port(name: str, number: int, protocol: str) -> Mapping[str, Any]:
    return {"name": name, "port": number, "protocol": protocol, "targetPort": number}


def _object(api_version: str, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
    place = {"namespace": namespace} if namespace else {}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **place, "labels": _LABELS}}
