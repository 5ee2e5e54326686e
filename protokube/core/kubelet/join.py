"""How a machine joins a cluster: kubelet's first kubeconfig, with a bootstrap token.

kubelet asks for its certificate with the token, and writes its own kubeconfig when it has one. Both kubeconfigs name
files: the token is read by kubelet alone, and stands in nothing that protokube writes. The authorities come with the
token, so that nothing has to be asked of a server that nobody can vouch for yet.
"""

from __future__ import annotations

AUTHORITIES_DIR = "/etc/protokube"
CA_PATH = f"{AUTHORITIES_DIR}/ca.crt"
TOKEN_PATH = "/etc/protokube/token"
"""What `protokube token create` tells to put on the machine, without the root prefix."""

CLIENT_DIR = "/var/lib/kubelet/pki"
CLIENT_PATH = f"{CLIENT_DIR}/kubelet-client-current.pem"
"""Where kubelet keeps its client certificate and key; it exchanges the link when it renews them."""


def bootstrap_kubeconfig(server: str) -> str:
    """The kubeconfig of a machine that has no certificate yet."""
    return _kubeconfig(server, f'tokenFile: "{TOKEN_PATH}"')


def node_kubeconfig(server: str) -> str:
    """The kubeconfig of a program that acts as the node that it runs on."""
    return _kubeconfig(server, f'client-certificate: "{CLIENT_PATH}"', f'client-key: "{CLIENT_PATH}"')


def _kubeconfig(server: str, *user: str) -> str:
    credentials = "\n      ".join(user)
    return f"""\
apiVersion: v1
kind: Config
clusters:
  - name: cluster
    cluster:
      server: "{server}"
      certificate-authority: "{CA_PATH}"
users:
  - name: user
    user:
      {credentials}
contexts:
  - name: context
    context: {{cluster: cluster, user: user}}
current-context: context
"""
