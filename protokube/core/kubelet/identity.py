"""kubelet's identity: the certificates that it shows, and the kubeconfig that tells it its API server.

On a control-plane node the authority is at hand, so that its certificates are issued there, and it talks to the API
server of its own machine: a load balancer, or another node that is not up yet, would keep the first one from coming
up, and no kubelet talks to an API server that is older than itself. The kubeconfig names files, and holds no
certificate: kubelet reads files again, and embedded ones never (client-go's transport).
"""

from __future__ import annotations

from collections.abc import Mapping

from protokube.core.model import Unknown, Unread
from protokube.core.pki.model import BACKDATED, KUBERNETES, PKI_DIR, Certificate, CertificateWanted, Damaged
from protokube.core.volumes.model import Instance

CLIENT = "kubelet"
"""The certificate that kubelet shows to the API server."""
SERVING = "kubelet-server"
"""The certificate of kubelet's own API: logs and exec."""
NODES = "system:nodes"
_USER = "system:node:"


def node_user(name: str) -> str:
    """The user that a node is, as the node authorizer knows it."""
    return _USER + name


def certificates(instance: Instance) -> tuple[CertificateWanted, ...]:
    """kubelet's certificates on a control-plane node. The API server finds it by its name or an internal address."""
    user = node_user(instance.name)
    return (
        CertificateWanted(CLIENT, KUBERNETES, user, (NODES,), client=True),
        CertificateWanted(
            SERVING, KUBERNETES, user, (NODES,), dns=(instance.name,), addresses=instance.internal, server=True
        ),
    )


def held(certificates: Mapping[str, Certificate | Damaged | Unknown] | Unknown | None) -> frozenset[str] | Unknown:
    """The names of kubelet's certificates that stand in their directories; unknown as soon as one can't be read.

    One that was issued for other names counts: kubelet goes on with it until the new one is there.
    """
    if certificates is None:
        return Unread("its certificates are still being read")
    if isinstance(certificates, Unknown):
        return certificates
    found = {name: certificates.get(name) for name in (CLIENT, SERVING)}
    unknown = next((one for one in found.values() if isinstance(one, Unknown)), None)
    return unknown or frozenset(name for name, one in found.items() if isinstance(one, Certificate))


def serving_issued(certificates: Mapping[str, Certificate | Damaged | Unknown] | Unknown | None) -> float | None:
    """When the certificate of kubelet's own API was issued; None where none stands that can be read."""
    found = certificates.get(SERVING) if isinstance(certificates, Mapping) else None
    return found.begins + BACKDATED if isinstance(found, Certificate) else None


def directory(certificate: str) -> str:
    """Where a certificate's files stand, without the root prefix."""
    return f"{PKI_DIR}/{certificate}"


def kubeconfig(server: str, files: str) -> str:
    """A kubeconfig of one API server and one user. `files` is a directory with tls.crt, tls.key and ca.crt."""
    return f"""\
apiVersion: v1
kind: Config
clusters:
  - name: cluster
    cluster:
      server: "{server}"
      certificate-authority: "{files}/ca.crt"
users:
  - name: user
    user:
      client-certificate: "{files}/tls.crt"
      client-key: "{files}/tls.key"
contexts:
  - name: context
    context: {{cluster: cluster, user: user}}
current-context: context
"""
