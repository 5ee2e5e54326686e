"""How a machine joins a cluster: kubelet's first kubeconfig, with a bootstrap token.

kubelet asks for its certificate with the token, and writes its own kubeconfig when it has one. Both kubeconfigs name
files: the token is read by kubelet alone, and stands in nothing that protokube writes. The authorities come with the
token, so that nothing has to be asked of a server that nobody can vouch for yet.
"""

from __future__ import annotations

CA_PATH = "/etc/protokube/ca.crt"
TOKEN_PATH = "/etc/protokube/token"
"""What `protokube token create` tells to put on the machine, without the root prefix."""


def bootstrap_kubeconfig(server: str) -> str:
    """The kubeconfig of a machine that has no certificate yet."""
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
      tokenFile: "{TOKEN_PATH}"
contexts:
  - name: context
    context: {{cluster: cluster, user: user}}
current-context: context
"""
