"""Who reads a file again by itself, and who must be restarted when it has changed.

Sources: etcd's client/pkg/transport (a certificate is read at each handshake, authorities at the start), Kubernetes's
dynamiccertificates package, and client-go's transport.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Reader(Struct, frozen=True):
    """Who reads a certificate's directory. `certificate` and `authorities` say when; None means only at its start."""

    program: str
    certificate: str | None
    authorities: str | None


_ETCD = Reader("etcd", "at each handshake", None)
_API_SERVER = "kube-apiserver"

READERS: Mapping[str, Reader] = {
    "etcd-server": _ETCD,
    "etcd-peer": _ETCD,
    "etcd-client": Reader(_API_SERVER, "at each new connection", None),
    "apiserver": Reader(_API_SERVER, "within a minute", "within a minute"),
    "apiserver-kubelet-client": Reader(_API_SERVER, "within 5 minutes", "within 5 minutes"),
    "front-proxy-client": Reader(_API_SERVER, "within a minute", "within a minute"),
    "front-proxy-trust": Reader("kube-controller-manager, kube-scheduler", "within a minute", "within a minute"),
    "controller-manager": Reader("kube-controller-manager", "within 5 minutes", None),
    "scheduler": Reader("kube-scheduler", "within 5 minutes", None),
    "proxy": Reader("kube-proxy", "within 5 minutes", None),
    "service-account": Reader(_API_SERVER, None, None),
    "signing-authority": Reader("kube-controller-manager", "within a minute", "within a minute"),
    "kubelet": Reader("kubelet", "within 5 minutes", None),
    "kubelet-server": Reader("kubelet", "within a minute; below 1.31 protokube restarts it", "within a minute"),
}


def reader_of(name: str) -> Reader | None:
    """Who reads the certificate of a name. The names of etcd's end with the etcd cluster's."""
    for kind in ("etcd-server-", "etcd-peer-"):
        if name.startswith(kind):
            return READERS[kind[:-1]]
    return READERS.get(name)
