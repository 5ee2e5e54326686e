"""The names that machines have got certificates for by tokens, kept in a ConfigMap, and those that kubelets hold.

The API server forgets a request an hour after it was decided, and a Node is there when kubelet has made it. A
certificate lives for a year. So a name is kept before its request is approved, and is never given again to a token
that wasn't made for it. The object's version decides between two control-plane nodes: one of them writes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from protokube.core.objects.requests import Claim
from protokube.core.objects.tokens import NAMESPACE
from protokube.kubeapi.client import KubeApi, Object
from protokube.kubeapi.http import KubeError

NAME = "protokube-joined"
MOST = 3000
"""Names that are kept, the latest ones: a ConfigMap holds a MiB, and a name may have 253 bytes."""

_TRIES = 5
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def claimed(api: KubeApi) -> Mapping[str, str]:
    """The uid of the request that got a certificate for a name, by the name."""
    return {name: text.partition(" ")[0] for name, text in _data(api.get(_path(api))).items()}


def alive_nodes(api: KubeApi) -> frozenset[str]:
    """The names of nodes whose kubelets have a lease."""
    return frozenset(one["metadata"]["name"] for one in api.list(_LEASES))


def claim(api: KubeApi, wanted: Claim, uid: str, now: datetime) -> bool:
    """Keep a name for a request. False when it is another one's. Where another node writes at the same time, it is
    looked at again, a few times."""
    for _ in range(_TRIES - 1):
        try:
            return _claim(api, wanted, uid, now)
        except KubeError as error:
            if error.status != 409:
                raise
    return _claim(api, wanted, uid, now)


def _claim(api: KubeApi, wanted: Claim, uid: str, now: datetime) -> bool:
    found = api.get(_path(api))
    data = _data(found)
    holder = data.get(wanted.node, "").partition(" ")[0]
    if holder == uid:
        return True
    if holder and not wanted.again:
        return False
    data[wanted.node] = f"{uid} {now:%Y-%m-%dT%H:%M:%SZ}"
    latest = sorted(data, key=lambda name: (name == wanted.node, data[name].partition(" ")[2]))[-MOST:]
    kept = {name: data[name] for name in sorted(latest)}
    if found is None:
        metadata = {"name": NAME, "namespace": NAMESPACE}
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": kept}
        api.create(api.path("v1", "ConfigMap", NAMESPACE), manifest)
    else:
        api.replace(_path(api), {**found, "data": kept})
    return True


def _path(api: KubeApi) -> str:
    return api.path("v1", "ConfigMap", NAMESPACE, NAME)


def _data(found: Object | None) -> dict[str, str]:
    return dict((found or {}).get("data") or {})
