"""kube-proxy on a node that joins: the only component of the control plane there.

It acts as its node, with kubelet's client certificate: the node has no authority to issue another one, and a pod that
is privileged can read kubelet's key in any case. kubelet renews it, and kube-proxy reads it again.
"""

from __future__ import annotations

from collections.abc import Iterator

from protokube.core.controlplane.component import Candidate, Situation, judge
from protokube.core.controlplane.model import (
    ControlPlaneAssessment,
    ControlPlaneFacts,
    ControlPlaneSettings,
    FileWanted,
    NodeOfControlPlane,
)
from protokube.core.controlplane.names import PROXY
from protokube.core.controlplane.paths import kubeconfig_path, pod_path
from protokube.core.controlplane.pods import health_url, pod
from protokube.core.controlplane.render import render
from protokube.core.controlplane.running import version_to_run
from protokube.core.controlplane.skew import skew_problem
from protokube.core.kubelet.join import AUTHORITIES_DIR, CA_PATH, CLIENT_DIR, node_kubeconfig
from protokube.core.kubelet.paths import KUBECONFIG_PATH
from protokube.core.model import Unknown
from protokube.core.node.model import File
from protokube.core.steps import Findings
from protokube.core.volumes.model import Instance

_KEYS = {"kubelet": CLIENT_DIR, "authorities": AUTHORITIES_DIR}


def assess_worker(
    settings: ControlPlaneSettings, facts: ControlPlaneFacts, instance: Instance | Unknown, api: str
) -> ControlPlaneAssessment:
    """Judge kube-proxy of a node that joins the cluster whose API server is at `api`."""
    findings = Findings()
    nothing = ControlPlaneAssessment(findings=findings)
    if isinstance(instance, Unknown) or isinstance(facts.node.files, Unknown):
        return nothing  # kubelet's judgement has told
    version = version_to_run(settings, facts, findings)
    if version is None:
        return nothing
    for fault in settings.faults:
        findings.refuse(PROXY, "control-plane/configuration", str(fault))
    if settings.faults:
        return nothing
    if not isinstance(facts.node.files.get(KUBECONFIG_PATH), File):
        findings.wait(PROXY, "kubelet has no certificate yet, and it is started with that", external=True)
        return nothing
    layers = settings.layers_for(PROXY, instance.instance_group, instance.name)
    node = NodeOfControlPlane(instance.name, instance.internal, ())
    rendered = render(PROXY, settings, node, version, layers)
    if isinstance(rendered, tuple):
        for fault in rendered:
            findings.refuse(PROXY, "control-plane/configuration", str(fault))
        return nothing
    findings.hints += [f"{PROXY}: {note}" for note in rendered.notes]
    situation = Situation(facts, findings)
    if problem := skew_problem(PROXY, version, situation.text(pod_path(PROXY))):
        findings.refuse(PROXY, "control-plane/skew", problem)
        return nothing
    files = [FileWanted(path, text, "") for path, text in sorted(rendered.files.items())]
    files.append(FileWanted(kubeconfig_path(PROXY), node_kubeconfig(api), "", mode=0o600))
    text = pod(rendered, version, settings.images, situation.text(CA_PATH) or "", _KEYS)
    manifest = f"{settings.manifest_dir}/{PROXY}.manifest"
    one = Candidate(PROXY, text, tuple(files), health_url(rendered), manifest)
    verdict = judge(situation, one, iter(()), _excuses(facts))
    return ControlPlaneAssessment((verdict,), situation.asked, findings, situation.units)


def _excuses(facts: ControlPlaneFacts) -> Iterator[str]:
    unit = facts.node.unit
    if unit is not None and (isinstance(unit, Unknown) or unit.active != "active"):
        yield "kubelet isn't running"
