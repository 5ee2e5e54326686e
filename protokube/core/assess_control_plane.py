"""Judges what a node with --control-plane has beside all others: certificates, its pods, and objects of the API.

Most nodes have none of it, and never load this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from protokube.core.component.schema import parse_version
from protokube.core.controlplane.assess import assess as assess_pods
from protokube.core.controlplane.certificates import api_server_names, wanted_certificates
from protokube.core.controlplane.images import dns_image
from protokube.core.controlplane.model import ControlPlaneAssessment, ControlPlaneFacts, Networking
from protokube.core.controlplane.names import has_api_server
from protokube.core.controlplane.worker import assess_worker
from protokube.core.etcd.model import EtcdAssessment
from protokube.core.kubelet.identity import certificates as kubelet_certificates
from protokube.core.model import Fault, Unknown
from protokube.core.objects.assess import assess as judge_objects
from protokube.core.objects.coredns import ClusterDns
from protokube.core.objects.model import CERTIFICATE, ObjectsAssessment, certificate
from protokube.core.objects.requests import Reserved
from protokube.core.objects.wanted import ObjectsInput, wanted_objects
from protokube.core.observed import Observed
from protokube.core.pki.model import Certificate, CertificateWanted, Damaged, PkiAssessment
from protokube.core.settings import NodeConfig
from protokube.core.volumes.model import Peer, VolumesAssessment


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
        observed.runtimes if config.kubelet.is_kubelet else None,
        observed.served,
        observed.health,
    )
    return assess_pods(config.components, facts, before, api_name)


def assess_joined(config: NodeConfig, observed: Observed) -> ControlPlaneAssessment | None:
    """Judge what of the control plane runs on a node that joins one; None where kubelet doesn't run its pods."""
    if config.kubelet.api is None or config.components is None or not config.kubelet.is_kubelet:
        return None
    facts = ControlPlaneFacts(
        observed.at, observed.node, observed.kubelet, {}, observed.endpoints, runtimes=observed.runtimes
    )
    return assess_worker(config.components, facts, observed.cloud.instance, config.kubelet.api)


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
    reserved = _reserved(config, volumes, api_names, observed.cloud.peers)
    return judge_objects(wanted, observed.objects, reserved, volumes.instance.name)


def _objects_input(config: NodeConfig, observed: Observed, volumes: VolumesAssessment) -> ObjectsInput:
    binary = observed.kubelet.binary
    installed = binary.version if binary is not None and not isinstance(binary, Unknown) else None
    version = config.kubelet.version or installed
    parsed = parse_version(version) if version is not None else None
    url = f"https://api{config.etcd.suffix(volumes.cluster_id)}:{config.kubelet.api_port}"
    known = None if isinstance(parsed, Fault) else parsed
    dns = None
    if (components := config.components) is not None and components.networking.core_dns:
        networking, image = components.networking, dns_image(components.images, known)
        dns = ClusterDns(networking.cluster_dns, networking.domain, image)
    return ObjectsInput(volumes.instance.name, url, observed.objects.ca, known, dns)


def names_of(peers: Iterable[Peer]) -> frozenset[str]:
    """The names of control-plane machines and of their nodes, which may have no Node object yet, in lower case."""
    return frozenset(name.lower() for one in peers for name in (one.instance, one.name) if name)


def _reserved(
    config: NodeConfig, volumes: VolumesAssessment, api_names: tuple[str, ...], peers: tuple[Peer, ...] | Unknown
) -> Reserved:
    """What no node that joins may have: this API server's, and what the cloud tells of other control-plane nodes."""
    networking = Networking() if config.components is None else config.components.networking
    names, addresses = api_server_names(volumes.instance, networking, api_names)
    others = [] if isinstance(peers, Unknown) else peers
    return Reserved(
        frozenset(addresses).union(*((*one.internal, *one.external) for one in others)),
        frozenset(names) | names_of(others),
        frozenset({networking.domain.lower()}),
    )


def _certificates(observed: Observed) -> Mapping[str, Certificate | Damaged | Unknown]:
    found = observed.pki.certificates
    return {} if found is None or isinstance(found, Unknown) else found
