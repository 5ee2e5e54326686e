"""Which version of Kubernetes this node is to run."""

from __future__ import annotations

from protokube.core.component.schema import Version, choose_version, parse_version
from protokube.core.controlplane.model import ControlPlaneFacts, ControlPlaneSettings
from protokube.core.model import Fault, Unknown, Unread
from protokube.core.steps import Findings

SUBJECT = "control plane"


def version_to_run(settings: ControlPlaneSettings, facts: ControlPlaneFacts, findings: Findings) -> Version | None:
    """The version to run: the configured one, else the installed kubelet's."""
    binary = facts.kubelet.binary
    if isinstance(binary, Unread) and settings.version is None:
        findings.wait(SUBJECT, binary.reason)
        return None
    installed = None if binary is None or isinstance(binary, Unknown) else binary.version
    text = settings.version or choose_version(None, installed)
    if text is None or isinstance(text, Fault):
        evidence = "neither kubernetesVersion nor an installed kubelet says which version is to run; say it"
        findings.refuse(SUBJECT, "control-plane/configuration", evidence)
        return None
    version = parse_version(text)
    if isinstance(version, Fault):
        findings.refuse(SUBJECT, "control-plane/configuration", str(version))
        return None
    kubelet = parse_version(installed) if installed else None
    if kubelet is not None and not isinstance(kubelet, Fault) and kubelet[:2] > version[:2]:
        evidence = f"kubelet is {installed}, kubernetesVersion {text}: kubelet is never newer than its API server"
        findings.refuse(SUBJECT, "control-plane/skew", evidence)
        return None
    return version
