"""Where kubelet's files stand on the node, without the root prefix."""

from protokube.core.kubelet.join import CA_PATH

ARGS_PATH = "/etc/sysconfig/kubelet"
CONFIG_PATH = "/var/lib/kubelet/config.yaml"
KUBECONFIG_PATH = "/var/lib/kubelet/kubeconfig"
BOOTSTRAP_PATH = "/var/lib/kubelet/bootstrap-kubeconfig"

PATHS = (ARGS_PATH, CONFIG_PATH, KUBECONFIG_PATH, BOOTSTRAP_PATH, CA_PATH)
"""The files that are read in every reconcile."""
