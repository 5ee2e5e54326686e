"""The certificates of the control plane on this node, and what of them is read at a component's start alone."""

from __future__ import annotations

from collections.abc import Mapping

from protokube.core.controlplane.model import Networking
from protokube.core.controlplane.names import API_SERVER, MANAGER, PROXY, SCHEDULER
from protokube.core.controlplane.network import first_service_address
from protokube.core.controlplane.own import (
    APISERVER_CERTIFICATE,
    CLIENTS,
    FRONT_PROXY_CLIENT,
    FRONT_PROXY_TRUST,
    KUBELET_CLIENT,
    SERVICE_ACCOUNT,
    SIGNING,
)
from protokube.core.etcd.tls import CLIENT
from protokube.core.model import Unknown
from protokube.core.pki.model import (
    FRONT_PROXY,
    KUBERNETES,
    TOKENS,
    Certificate,
    CertificateWanted,
    Damaged,
    Material,
)
from protokube.core.volumes.model import Instance

USERS = {MANAGER: "system:kube-controller-manager", SCHEDULER: "system:kube-scheduler", PROXY: "system:kube-proxy"}
"""The users that the API server's built-in roles are bound to."""

# What each component reads at its start alone (kubernetes, dynamiccertificates: all else is read again).
_AT_START = {
    API_SERVER: (CLIENT, KUBELET_CLIENT, SERVICE_ACCOUNT),
    MANAGER: (CLIENTS[MANAGER], SERVICE_ACCOUNT),
    SCHEDULER: (CLIENTS[SCHEDULER],),
    PROXY: (CLIENTS[PROXY],),
}


def wanted_certificates(
    instance: Instance, networking: Networking, api_names: tuple[str, ...], *, api_server: bool
) -> tuple[CertificateWanted, ...]:
    """The certificates of the pods on this node; without an `api_server` only the proxy runs here."""
    proxy = CertificateWanted(CLIENTS[PROXY], KUBERNETES, USERS[PROXY], client=True)
    if not api_server:
        return (proxy,)
    clients = [CertificateWanted(CLIENTS[one], KUBERNETES, USERS[one], client=True) for one in (MANAGER, SCHEDULER)]
    names, addresses = api_server_names(instance, networking, api_names)
    return (
        CertificateWanted(
            APISERVER_CERTIFICATE,
            KUBERNETES,
            "kube-apiserver",
            dns=names,
            addresses=addresses,
            server=True,
        ),
        # No group: a role for exactly this user lets it reach kubelets (system:kubelet-api-admin).
        CertificateWanted(KUBELET_CLIENT, KUBERNETES, "kube-apiserver-kubelet-client", client=True),
        CertificateWanted(FRONT_PROXY_CLIENT, FRONT_PROXY, FRONT_PROXY_CLIENT, client=True),
        CertificateWanted(FRONT_PROXY_TRUST, FRONT_PROXY, FRONT_PROXY_TRUST, material=Material.TRUST),
        *clients,
        proxy,
        CertificateWanted(SERVICE_ACCOUNT, TOKENS, SERVICE_ACCOUNT, material=Material.TOKEN_KEYS),
        CertificateWanted(SIGNING, KUBERNETES, SIGNING, material=Material.AUTHORITY),
    )


def api_server_names(
    instance: Instance, networking: Networking, api_names: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names and the addresses that this node's API server is called by."""
    inside = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    names = (instance.name, *inside, f"{inside[-1]}.{networking.domain}", *api_names, "localhost")
    own = ("127.0.0.1", *first_service_address(networking), *instance.internal, *instance.external)
    return tuple(dict.fromkeys(name.lower() for name in names)), tuple(dict.fromkeys(own))


def needed_by(component: str, *, etcd_tls: bool) -> frozenset[str]:
    """The certificates without which a component isn't started, and that its pod sees: no others."""
    if component == API_SERVER:
        own = {APISERVER_CERTIFICATE, KUBELET_CLIENT, FRONT_PROXY_CLIENT, SERVICE_ACCOUNT}
        return frozenset(own | ({CLIENT} if etcd_tls else set()))
    own = {CLIENTS[component]}
    if component == MANAGER:
        own |= {SERVICE_ACCOUNT, SIGNING, FRONT_PROXY_TRUST}
    if component == SCHEDULER:
        own.add(FRONT_PROXY_TRUST)
    return frozenset(own)


def trusted_by(component: str, certificates: Mapping[str, Certificate | Damaged | Unknown]) -> str:
    """A text for the authorities and keys that a component reads at its start alone.

    Which of several authorities issues is no matter of trust. Of the keys of tokens the first signs.
    """
    found = (certificates.get(name) for name in _AT_START[component])
    return " ".join(
        ",".join(one.trusted if one.wanted.material is Material.TOKEN_KEYS else sorted(one.trusted))
        for one in found
        if isinstance(one, Certificate)
    )
