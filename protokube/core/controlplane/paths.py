"""Where the control plane's files stand on the node, without the root prefix."""

from __future__ import annotations

from protokube.core.controlplane.names import API_SERVER, COMPONENTS
from protokube.core.pki.model import CURRENT, PKI_DIR, directory_of

PODS_DIR = "/var/lib/protokube/control-plane"
"""The pods themselves. The manifest folder holds links to them."""


def pod_path(component: str) -> str:
    """A component's pod."""
    return f"{PODS_DIR}/{component}.manifest"


def good_path(component: str) -> str:
    """The last pod of a component that was seen healthy."""
    return f"{PODS_DIR}/{component}.last-good"


def condemned_path(component: str) -> str:
    """The pod of a component that didn't come up, and isn't tried again."""
    return f"{PODS_DIR}/{component}.rolled-back"


def configuration_dir(component: str) -> str:
    """The directory of the files that a component reads beside its flags."""
    return f"/etc/kubernetes/{component}"


def kubeconfig_dir(component: str) -> str:
    """The directory of a component's kubeconfig."""
    return f"/var/lib/{component}"


def kubeconfig_path(component: str) -> str:
    """A component's kubeconfig."""
    return f"{kubeconfig_dir(component)}/kubeconfig"


def certificate_mount(name: str) -> str:
    """The directory that a pod mounts to see one certificate, and those that are exchanged for it."""
    return f"{PKI_DIR}/{directory_of(name)}"


def certificate_dir(name: str) -> str:
    """A certificate's files, as a pod sees them."""
    return f"{certificate_mount(name)}/{CURRENT}"


def certificate_path(name: str, file: str) -> str:
    """A file of a certificate, as a pod sees it."""
    return f"{certificate_dir(name)}/{file}"


CONTROL_PLANE_DIRECTORIES = (
    PODS_DIR,
    *map(configuration_dir, COMPONENTS),
    *map(kubeconfig_dir, (one for one in COMPONENTS if one != API_SERVER)),
)
"""The directories that are read in every reconcile."""
