"""What protokube tells each component itself: what it owns, and defaults that a layer may change.

The values are kubeadm's and kops's (kubeadm, phases/controlplane/manifests.go; kops, nodeup/pkg/model), with the
reason where they differ.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from protokube.core.component.layers import Settings
from protokube.core.component.schema import Version
from protokube.core.controlplane.layers import Configured, value_of
from protokube.core.controlplane.model import ControlPlaneSettings, NodeOfControlPlane
from protokube.core.controlplane.names import API_PORT, API_SERVER, MANAGER, PROXY, SCHEDULER
from protokube.core.controlplane.paths import certificate_path, kubeconfig_path
from protokube.core.etcd.tls import CLIENT
from protokube.core.volumes.model import MAIN

APISERVER_CERTIFICATE = "apiserver"
KUBELET_CLIENT = "apiserver-kubelet-client"
FRONT_PROXY_CLIENT = "front-proxy-client"
FRONT_PROXY_TRUST = "front-proxy-trust"
"""Whom the front proxy's word is taken of. Its certificate isn't beside it: who holds that is any user."""
SERVICE_ACCOUNT = "service-account"
SIGNING = "signing-authority"
CLIENTS = {MANAGER: "controller-manager", SCHEDULER: "scheduler", PROXY: "proxy"}
"""The certificates with which components are clients of the API server."""

EVENTS = "events"
_SCHEDULER_WITHOUT_ADDRESSES = (1, 22)
"""KubeSchedulerConfiguration v1beta2, the first without an insecure port."""
_INSECURE_PORT_GONE = {API_SERVER: (1, 24), MANAGER: (1, 24), SCHEDULER: (1, 23)}


class Own(Struct, frozen=True):
    """A component's own settings of ours. `defaults` give way to what is configured, `fixed` don't."""

    defaults: Mapping[str, object]
    fixed: Mapping[str, object]


def own_settings(
    component: str, given: ControlPlaneSettings, node: NodeOfControlPlane, version: Version, configured: Configured
) -> Own:
    """What protokube sets for a component of this node."""
    own = _OWN[component](given, node, configured)
    gone = _INSECURE_PORT_GONE.get(component)
    if gone is not None and version[:2] < gone:
        # An open port without authentication, on by default below 1.20, and for some until it is gone.
        port = "insecurePort" if component == API_SERVER else "port"
        own = Own(own.defaults, {**own.fixed, port: 0})
    if component == SCHEDULER and version[:2] < _SCHEDULER_WITHOUT_ADDRESSES:
        # Beside a file --port=0 has no effect there, and the file's addresses can't be empty (seen with 1.20.2).
        addresses = dict.fromkeys(("healthzBindAddress", "metricsBindAddress"), "127.0.0.1:10251")
        own = Own(own.defaults, {**own.fixed, **addresses})
    return own


def _api_server(given: ControlPlaneSettings, node: NodeOfControlPlane, configured: Configured) -> Own:
    settings = configured.settings
    defaults: dict[str, object] = {
        "allowPrivileged": True,
        "enableBootstrapTokenAuth": True,
        "kubeletPreferredAddressTypes": ["InternalIP", "ExternalIP", "Hostname"],
        "securePort": API_PORT,
        "serviceAccountIssuer": [f"https://kubernetes.default.svc.{given.networking.domain}"],
        # Without it whoever takes a kubelet's address is sent what people run in its pods.
        "kubeletCertificateAuthority": certificate_path(KUBELET_CLIENT, "ca.crt"),
        "enableProfiling": False,  # a debugging aid that costs, and tells callers more than they need
    }
    if "authorizationConfig" not in configured.files:
        defaults["authorizationMode"] = ["Node", "RBAC"]
    fixed: dict[str, object] = {
        "clientCAFile": certificate_path(APISERVER_CERTIFICATE, "ca.crt"),
        "tlsCertFile": certificate_path(APISERVER_CERTIFICATE, "tls.crt"),
        "tlsPrivateKeyFile": certificate_path(APISERVER_CERTIFICATE, "tls.key"),
        "kubeletClientCertificate": certificate_path(KUBELET_CLIENT, "tls.crt"),
        "kubeletClientKey": certificate_path(KUBELET_CLIENT, "tls.key"),
        "proxyClientCertFile": certificate_path(FRONT_PROXY_CLIENT, "tls.crt"),
        "proxyClientKeyFile": certificate_path(FRONT_PROXY_CLIENT, "tls.key"),
        "requestheaderClientCAFile": certificate_path(FRONT_PROXY_CLIENT, "ca.crt"),
        "requestheaderAllowedNames": [FRONT_PROXY_CLIENT],
        "requestheaderUsernameHeaders": ["X-Remote-User"],
        "requestheaderGroupHeaders": ["X-Remote-Group"],
        "requestheaderExtraHeadersPrefix": ["X-Remote-Extra-"],
        "serviceAccountKeyFile": [certificate_path(SERVICE_ACCOUNT, "public.pem")],
        "serviceAccountSigningKeyFile": certificate_path(SERVICE_ACCOUNT, "signing.key"),
        "serviceClusterIPRange": given.networking.service_cidr,
        "enableAdmissionPlugins": _admission(settings),
        **_etcd(node),
    }
    if node.addresses:
        fixed["advertiseAddress"] = node.addresses[0]
    return Own(defaults, fixed)


def _admission(settings: Settings) -> list[object]:
    """The plugins, with NodeRestriction: without it a kubelet may change every node and every pod."""
    configured = value_of(settings, "enableAdmissionPlugins")
    plugins = list(configured) if isinstance(configured, list) else []
    disabled = value_of(settings, "disableAdmissionPlugins")
    off = isinstance(disabled, list) and "NodeRestriction" in disabled
    return plugins if off or "NodeRestriction" in plugins else [*plugins, "NodeRestriction"]


def _etcd(node: NodeOfControlPlane) -> dict[str, object]:
    urls = {one.cluster: one.url for one in node.etcd}
    found: dict[str, object] = {"etcdServers": [urls[MAIN]]} if MAIN in urls else {}
    if EVENTS in urls:
        found["etcdServersOverrides"] = [f"/events#{urls[EVENTS]}"]
    if any(url.startswith("https:") for url in urls.values()):
        # One certificate for all etcd clusters: the API server can't have more.
        found["etcdCAFile"] = certificate_path(CLIENT, "ca.crt")
        found["etcdCertFile"] = certificate_path(CLIENT, "tls.crt")
        found["etcdKeyFile"] = certificate_path(CLIENT, "tls.key")
    return found


def _manager(given: ControlPlaneSettings, _node: NodeOfControlPlane, _configured: Configured) -> Own:
    kubeconfig = kubeconfig_path(MANAGER)
    defaults: dict[str, object] = {
        "bindAddress": "127.0.0.1",
        "leaderElection.leaderElect": True,
        "useServiceAccountCredentials": True,
        # These two are off by default. Without them tokens for joining never end, and cluster-info isn't signed.
        "controllers": ["*", "bootstrapsigner", "tokencleaner"],
        "allocateNodeCIDRs": True,
        "enableProfiling": False,
    }
    fixed: dict[str, object] = {
        "kubeconfig": kubeconfig,
        "authenticationKubeconfig": kubeconfig,
        "authorizationKubeconfig": kubeconfig,
        "clientCAFile": certificate_path(CLIENTS[MANAGER], "ca.crt"),
        "requestheaderClientCAFile": certificate_path(FRONT_PROXY_TRUST, "ca.crt"),
        "rootCAFile": certificate_path(CLIENTS[MANAGER], "ca.crt"),
        "serviceAccountPrivateKeyFile": certificate_path(SERVICE_ACCOUNT, "signing.key"),
        # A single certificate, not the bundle of a rotation: the signer takes no chain.
        "clusterSigningCertFile": certificate_path(SIGNING, "tls.crt"),
        "clusterSigningKeyFile": certificate_path(SIGNING, "tls.key"),
        "clusterCIDR": given.networking.pod_cidr,
        "serviceClusterIPRange": given.networking.service_cidr,
    }
    return Own(defaults, fixed)


def _scheduler(_given: ControlPlaneSettings, _node: NodeOfControlPlane, _configured: Configured) -> Own:
    kubeconfig = kubeconfig_path(SCHEDULER)
    defaults: dict[str, object] = {
        "bindAddress": "127.0.0.1",
        "leaderElection.leaderElect": True,
        "enableProfiling": False,
    }
    fixed: dict[str, object] = {
        "clientConnection.kubeconfig": kubeconfig,
        "authenticationKubeconfig": kubeconfig,
        "authorizationKubeconfig": kubeconfig,
        "clientCAFile": certificate_path(CLIENTS[SCHEDULER], "ca.crt"),
        "requestheaderClientCAFile": certificate_path(FRONT_PROXY_TRUST, "ca.crt"),
    }
    return Own(defaults, fixed)


def _proxy(given: ControlPlaneSettings, node: NodeOfControlPlane, _configured: Configured) -> Own:
    fixed: dict[str, object] = {
        "clientConnection.kubeconfig": kubeconfig_path(PROXY),
        "clusterCIDR": given.networking.pod_cidr,
        "hostnameOverride": node.name,
    }
    return Own({}, fixed)


_OWN = {API_SERVER: _api_server, MANAGER: _manager, SCHEDULER: _scheduler, PROXY: _proxy}
