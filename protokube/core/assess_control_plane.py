"""Judges what a node with --control-plane has beside all others: certificates, its pods, and objects of the API.

Most nodes have none of it, and never load this module.
"""

from __future__ import annotations

from collections.abc import Mapping

from protokube.core.component.schema import parse_version
from protokube.core.controlplane.assess import assess as assess_pods
from protokube.core.controlplane.certificates import api_server_names, wanted_certificates
from protokube.core.controlplane.model import ControlPlaneAssessment, ControlPlaneFacts, Networking
from protokube.core.controlplane.names import has_api_server
from protokube.core.etcd.model import EtcdAssessment
from protokube.core.kubelet.identity import certificates as kubelet_certificates
from protokube.core.model import Fault, Unknown
from protokube.core.objects.assess import assess as judge_objects
from protokube.core.objects.model import CERTIFICATE, ObjectsAssessment, certificate
from protokube.core.objects.serving import Reserved
from protokube.core.objects.wanted import ObjectsInput, wanted_objects
from protokube.core.observed import Observed
from protokube.core.pki.model import Certificate, CertificateWanted, Damaged, PkiAssessment
from protokube.core.settings import NodeConfig
from protokube.core.volumes.model import VolumesAssessment


def node_certificates(
    config: NodeConfig, volumes: VolumesAssessment, api_names: tuple[str, ...]
) -> tuple[CertificateWanted, ...]:
    """The certificates of kubelet, of protokube itself, and of the pods on this node."""
    own = (*kubelet_certificates(volumes.instance), certificate())
    if config.components is None:
        return own
    networking, here = config.components.networking, has_api_server(volumes)
    return own + wanted_certificates(volumes.instance, networking, api_names, api_server=here)


def assess_control_plane(
    config: NodeConfig,
    observed: Observed,
    before: tuple[VolumesAssessment, PkiAssessment, EtcdAssessment],
    api_name: str,
) -> ControlPlaneAssessment | None:
    """Judge the control plane's pods; None where another hand runs them."""
    if config.components is None:
        return None
    facts = ControlPlaneFacts(
        observed.at,
        observed.node,
        observed.kubelet,
        _certificates(observed),
        observed.endpoints,
        observed.cloud.peers,
    )
    return assess_pods(config.components, facts, before, api_name)


def assess_objects(
    config: NodeConfig,
    observed: Observed,
    before: tuple[VolumesAssessment, PkiAssessment],
    api_names: tuple[str, ...],
) -> ObjectsAssessment | None:
    """Judge the objects of the API, on a node with an API server that protokube has a certificate for."""
    volumes, pki = before
    if not has_api_server(volumes) or CERTIFICATE not in pki.ready:
        return None
    wanted = wanted_objects(_objects_input(config, observed, volumes))
    return judge_objects(wanted, observed.objects, _reserved(config, volumes, api_names))


def _objects_input(config: NodeConfig, observed: Observed, volumes: VolumesAssessment) -> ObjectsInput:
    binary = observed.kubelet.binary
    installed = binary.version if binary is not None and not isinstance(binary, Unknown) else None
    version = config.kubelet.version or installed
    parsed = parse_version(version) if version is not None else None
    url = f"https://api{config.etcd.suffix(volumes.cluster_id)}:{config.kubelet.api_port}"
    known = None if isinstance(parsed, Fault) else parsed
    return ObjectsInput(volumes.instance.name, url, observed.objects.ca, known)


def _reserved(config: NodeConfig, volumes: VolumesAssessment, api_names: tuple[str, ...]) -> Reserved:
    networking = Networking() if config.components is None else config.components.networking
    names, addresses = api_server_names(volumes.instance, networking, api_names)
    return Reserved(frozenset(addresses), frozenset(names), frozenset({networking.domain.lower()}))


def _certificates(observed: Observed) -> Mapping[str, Certificate | Damaged | Unknown]:
    found = observed.pki.certificates
    return {} if found is None or isinstance(found, Unknown) else found
