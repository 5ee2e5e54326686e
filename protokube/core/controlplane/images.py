"""Where images come from."""

from __future__ import annotations

from protokube.core.component.schema import Version, spell
from protokube.core.controlplane.model import Images
from protokube.core.controlplane.names import COMPONENTS

COREDNS = "coredns"
KNOWN = (*COMPONENTS, COREDNS)
"""All whose images can be overridden."""

_RELEASES = (
    ((1, 36), "coredns/coredns:v1.14.2"),
    ((1, 33), "coredns/coredns:v1.12.0"),
    ((1, 29), "coredns/coredns:v1.11.1"),
    ((1, 25), "coredns/coredns:v1.9.3"),
    ((1, 21), "coredns/coredns:v1.8.6"),
)
"""CoreDNS by the Kubernetes version from which on it is taken (kubeadm's constants.go, by release)."""
_BEFORE = "coredns:1.7.0"
"""The last one that doesn't ask for discovery.k8s.io/v1, which 1.21 brought."""


def image(component: str, images: Images, version: Version) -> str:
    """A component's image; it follows the version."""
    return images.overrides.get(component) or f"{images.registry}/{component}:v{spell(version)}"


def dns_image(images: Images, version: Version | None) -> str:
    """CoreDNS's image for a version of Kubernetes; for the newest one where none is known."""
    fitting = (path for since, path in _RELEASES if version is None or version[:2] >= since)
    return images.overrides.get(COREDNS) or f"{images.registry}/{next(fitting, _BEFORE)}"
