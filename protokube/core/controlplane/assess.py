"""From component configuration to running pods: files, then the pod, then the link to it.

- An API server is started, or changed, when this machine's etcd is healthy by its own word and its certificates are
  there. Controller manager and scheduler are started beside it. A standby without a volume of `main` runs the proxy
  alone: an API server there would have no etcd.
- One component is changed at a time, the API server first: it is never older than what talks to it.
- A pod that was seen healthy is kept as the last good one. A changed pod that doesn't come up gives way to it,
  loudly, and is tried again only when the configuration says something else.

A converged node asks for no health and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from protokube.core.component.schema import Version, parse_version
from protokube.core.controlplane.component import Candidate, Situation, judge, withdraw
from protokube.core.controlplane.foretold import tell_waiting
from protokube.core.controlplane.model import (
    ComponentVerdict,
    ControlPlaneAssessment,
    ControlPlaneFacts,
    ControlPlaneSettings,
    FileWanted,
    NodeOfControlPlane,
)
from protokube.core.controlplane.names import API_SERVER, COMPONENTS, MANAGER, PROXY, has_api_server
from protokube.core.controlplane.node import LocalEtcd, api_port, local_etcd, node_of
from protokube.core.controlplane.others import other_api_servers, own_member
from protokube.core.controlplane.own import CLIENTS
from protokube.core.controlplane.paths import certificate_dir, kubeconfig_path, pod_path
from protokube.core.controlplane.pods import health_port, health_url, pod
from protokube.core.controlplane.render import Rendered, render
from protokube.core.controlplane.rollout import Rollout
from protokube.core.controlplane.running import SUBJECT, version_to_run
from protokube.core.controlplane.skew import ahead_problem, lag_problem, pod_version, skew_problem
from protokube.core.etcd.model import EtcdAssessment
from protokube.core.kubelet.identity import kubeconfig
from protokube.core.kubelet.model import KubeletBinary
from protokube.core.model import Unknown
from protokube.core.node.model import Link
from protokube.core.pki.model import PkiAssessment
from protokube.core.steps import Findings
from protokube.core.volumes.model import VolumesAssessment

Before = tuple[VolumesAssessment, PkiAssessment, EtcdAssessment]
"""The judgements of the concerns before this one."""


def assess(
    settings: ControlPlaneSettings, facts: ControlPlaneFacts, before: Before, api_name: str
) -> ControlPlaneAssessment:
    """Judge this node's part of the control plane. `api_name` is the API's name for nodes."""
    findings = Findings()
    nothing = ControlPlaneAssessment(findings=findings)
    if isinstance(facts.node.files, Unknown):
        findings.not_known("files", facts.node.files.reason)
        return nothing
    version = version_to_run(settings, facts, findings)
    if version is None:
        return nothing
    for fault in settings.faults:
        findings.refuse(SUBJECT, "control-plane/configuration", str(fault))
    if settings.faults:
        return nothing
    volumes, pki, etcd = before
    here = has_api_server(volumes)
    if not here:
        findings.hints.append(
            f"{SUBJECT}: this node has no volume of etcd cluster main, so that no API server runs here; kube-proxy "
            f"and kubelet reach the others' at {api_name}"
        )
    members = local_etcd(volumes, etcd) if here else ()
    if isinstance(members, str):
        findings.wait(SUBJECT, members, external=True)
        return nothing
    situation = Situation(facts, findings)
    node = node_of(volumes, members, facts)
    others = other_api_servers(volumes, etcd, facts.peers)
    own = members if here else None
    rollout = Rollout(situation, volumes.instance.id, others, own_member(etcd), api_port(settings))
    plane = _Plane(settings, version, node, pki.ready, own, situation, rollout)
    verdicts = tuple(plane.judge(volumes.instance.instance_group, api_name))
    units, asked = situation.units, situation.asked
    return ControlPlaneAssessment(verdicts, asked, findings, units, rollout.asked, rollout.turn)


class _Plane(Struct, frozen=True):
    """The components of this node. `members` are its etcd members; None where no API server belongs on it."""

    settings: ControlPlaneSettings
    version: Version
    node: NodeOfControlPlane
    ready: frozenset[str]
    members: tuple[LocalEtcd, ...] | None
    situation: Situation
    rollout: Rollout

    def judge(self, group: str | None, api_name: str) -> Iterator[ComponentVerdict]:
        """The verdicts on all components."""
        for problem in self._kubelet_ahead():
            self.situation.findings.refuse("kubelet", "control-plane/skew", problem)
        rendered = self._rendered(group)
        api = rendered.get(API_SERVER)
        port = health_port(api) if api is not None else api_port(self.settings)
        here = health_url(api).removesuffix("/livez") if api is not None else f"https://127.0.0.1:{port}"
        server = here if self.members is not None else f"https://{api_name}:{port}"
        for component in COMPONENTS:
            manifest = f"{self.settings.manifest_dir}/{component}.manifest"
            if component != PROXY and self.members is None:
                verdict = withdraw(self.situation, component, manifest)
            else:
                one = rendered.get(component)
                verdict = None if one is None else self._component(one, manifest, server, here)
            if verdict is not None:
                yield verdict

    def _rendered(self, group: str | None) -> Mapping[str, Rendered]:
        """The components whose configuration is right; the faults of the others are refused."""
        found: dict[str, Rendered] = {}
        findings = self.situation.findings
        for component in COMPONENTS:
            layers = self.settings.layers_for(component, group, self.node.name)
            outcome = render(component, self.settings, self.node, self.version, layers)
            if isinstance(outcome, Rendered):
                found[component] = outcome
                findings.hints += [f"{component}: {note}" for note in outcome.notes]
            else:
                for fault in outcome:
                    findings.refuse(component, "control-plane/configuration", str(fault))
        return found

    def _component(self, rendered: Rendered, manifest: str, server: str, here: str) -> ComponentVerdict | None:
        component = rendered.component
        text = pod(rendered, self.version, self.settings.images, self.node.trusted.get(component, ""))
        files = [FileWanted(path, each, "") for path, each in sorted(rendered.files.items())]
        if component != API_SERVER:
            config = kubeconfig(server, certificate_dir(CLIENTS[component]))
            files.append(FileWanted(kubeconfig_path(component), config, "", mode=0o600))
        missing = rendered.certificates - self.ready
        one = Candidate(component, text, tuple(files), health_url(rendered), manifest, missing)
        if problem := self._step_problem(component, self.situation.text(one.path)):
            self.situation.findings.refuse(component, "control-plane/skew", problem)
            return None
        verdict = self._step(one, here)
        tell_waiting(self.situation, one, verdict)
        return verdict

    def _step(self, one: Candidate, here: str) -> ComponentVerdict | None:
        component, present = one.component, self.situation.text(one.path)
        waits = tuple(self._too_new(component, present))
        if component == API_SERVER and not self.rollout.may_change(one, self._etcd(), waits):
            # The others go on meanwhile: an API server elsewhere that never comes back must not hold them up.
            return None
        if component != API_SERVER and waits:
            self.situation.findings.wait(component, "; ".join(waits), external=True)
            return None
        verdict = judge(self.situation, one, self._gate(component), self._excuses(component, here))
        if component == API_SERVER:
            self.rollout.watch(one, verdict)
        return verdict

    def _step_problem(self, component: str, present: str | None) -> str | None:
        """Why a component must not go from its present pod to the version, whatever runs elsewhere."""
        if problem := skew_problem(component, self.version, present):
            return problem
        before = pod_version(present)
        if component != API_SERVER or before is None or before[:2] == self.version[:2]:
            return None
        own = ((one, pod_version(self.situation.text(pod_path(one)))) for one in COMPONENTS if one != API_SERVER)
        # A component that is left two versions behind could never follow: it goes up one at a time as well.
        late = (lag_problem(self.version, one, there) for one, there in own if there is not None)
        return next(filter(None, late), None)

    def _too_new(self, component: str, present: str | None) -> Iterator[str]:
        """Why a component waits for the API servers of this node and of the others, which are older."""
        own = None if component == API_SERVER else ahead_problem(component, self.version, self._server_version())
        if own is not None:
            yield own
        elif self.members is not None:
            yield from self.rollout.too_new(component, self.version, present)

    def _server_version(self) -> Version | None:
        """The version of the API server that is linked here; None where none is, or its image doesn't tell."""
        link = self.situation.state(f"{self.settings.manifest_dir}/{API_SERVER}.manifest")
        return pod_version(self.situation.text(pod_path(API_SERVER))) if isinstance(link, Link) else None

    def _kubelet_ahead(self) -> Iterator[str]:
        binary = self.situation.facts.kubelet.binary
        installed = parse_version(binary.version) if isinstance(binary, KubeletBinary) else None
        if not isinstance(installed, tuple):
            return
        if problem := ahead_problem("kubelet", installed, self._server_version()):
            yield problem
        elif self.members is not None:
            yield from self.rollout.kubelet_too_new(installed, self.situation.text(pod_path(MANAGER)))

    def _gate(self, component: str) -> Iterator[str]:
        """What a start or a change of a component waits for."""
        if component == API_SERVER:
            yield from self._etcd()
        elif component != PROXY:
            path = f"{self.settings.manifest_dir}/{API_SERVER}.manifest"
            if not isinstance(self.situation.state(path), Link):
                yield f"{API_SERVER} is started first"

    def _excuses(self, component: str, here: str) -> Iterator[str]:
        """Causes other than its pod for a component that isn't up."""
        unit = self.situation.facts.node.unit
        if unit is not None and (isinstance(unit, Unknown) or unit.active != "active"):
            yield "kubelet isn't running"
        elif component == API_SERVER:
            yield from self._etcd()
        elif self.members is not None and (ill := self.situation.ill(API_SERVER, f"{here}/livez")):
            yield ill

    def _etcd(self) -> Iterator[str]:
        for one in self.members or ():
            if ill := self.situation.ill(f"etcd {one.endpoint.cluster}", one.health):
                yield ill
