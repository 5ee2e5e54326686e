"""Which etcd members speak TLS, and the certificates that they need.

A cluster begins with TLS or without, and stays so: its members can't be moved one by one without care. What runs is
told by the manifest on the volume, else by the URLs that peers answer; only a new cluster follows the settings.

Peers are known by names alone, never by addresses: a member that moves keeps its certificate. Every peer certificate
has its own name and one that all peers of the etcd cluster share. The accepting side checks the shared one
(peer-cert-allowed-hostname) and no longer looks the client's names up: that kept a moved member out until every
other member's name service knew its new address (measured with etcd 3.4.23, 3.5.16, 3.5.30).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from protokube.core.disks.identity import Identity, parse_identity
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.etcd.model import EtcdFacts, EtcdSettings, EtcdTemplate, MountedMember, PeerAnswers
from protokube.core.model import Unknown
from protokube.core.pki.assess import PkiNeeds
from protokube.core.pki.model import ETCD_CLIENTS, CertificateWanted, etcd_peers
from protokube.core.static_pod import manifest_env
from protokube.core.volumes.model import VolumesAssessment

CLIENT = "etcd-client"
"""The certificate of etcd's clients on this node. The API server can have one for all its etcd clusters."""


def server_certificate(cluster: str) -> str:
    """The name of the certificate of an etcd cluster's client port."""
    return f"etcd-server-{cluster}"


def peer_certificate(cluster: str) -> str:
    """The name of the certificate of an etcd cluster's peer port."""
    return f"etcd-peer-{cluster}"


def peers_name(template: EtcdTemplate, suffix: str) -> str:
    """The name that all peer certificates of an etcd cluster share. It is never looked up."""
    return f"peers.{template.cluster_name}{suffix}".lower()


def may_use_tls(settings: EtcdSettings, member: MountedMember) -> bool:
    """Whether a member uses TLS, or would if its cluster were new."""
    present = manifest_env(member.manifest).get("ETCD_LISTEN_PEER_URLS", "")
    if present.startswith("https:"):
        return True
    if member.has_data or not member.template.supports_tls:
        return False
    return settings.tls == "on" or (settings.tls == "auto" and settings.store_shared)


def uses_tls(settings: EtcdSettings, member: MountedMember, answers: PeerAnswers | Unknown | None) -> bool:
    """Whether a member speaks TLS: as its manifest says, else as its peers do, else as a new cluster would."""
    if member.has_data or not isinstance(answers, PeerAnswers):
        return may_use_tls(settings, member)
    urls = [url for listed in answers.lists.values() for peer in listed for url in peer.peer_urls]
    return may_use_tls(settings, member) and any(url.startswith("https:") for url in urls)


def member_certificates(member: MountedMember, suffix: str) -> tuple[CertificateWanted, ...]:
    """The certificates of a member.

    Both are for servers and for clients: peers dial one another, and etcd's JSON gateway dials its own client port
    with the server's certificate (etcd-io/etcd 9785).
    """
    cluster, template = member.volume.member.cluster, member.template
    name = template.member_name(member.volume.member.me)
    own = f"{name}{suffix}".lower()
    return (
        CertificateWanted(
            server_certificate(cluster),
            ETCD_CLIENTS,
            name,
            dns=(own, "localhost"),
            addresses=("127.0.0.1", "::1"),
            server=True,
            client=True,
        ),
        CertificateWanted(
            peer_certificate(cluster),
            etcd_peers(cluster),
            name,
            dns=(own, peers_name(template, suffix)),
            server=True,
            client=True,
        ),
    )


def pki_needs(
    settings: EtcdSettings, facts: EtcdFacts, volumes: VolumesAssessment, members: Sequence[MountedMember]
) -> PkiNeeds:
    """The certificates that the members need, and whether etcd ever ran in this cluster."""
    suffix = settings.suffix(volumes.cluster_id)
    secured = [one for one in members if uses_tls(settings, one, _answers(facts.answers, one))]
    wanted = [one for member in secured for one in member_certificates(member, suffix)]
    if secured:
        wanted.append(CertificateWanted(CLIENT, ETCD_CLIENTS, "kube-apiserver-etcd-client", client=True))
    authorities = tuple(etcd_peers(cluster) for cluster in sorted(settings.templates))
    return PkiNeeds(volumes.cluster_id, tuple(wanted), authorities, _evidence(volumes, members))


def _answers(answers: Mapping[str, PeerAnswers | Unknown], member: MountedMember) -> PeerAnswers | Unknown | None:
    return answers.get(member.volume.member.cluster)


def _evidence(volumes: VolumesAssessment, members: Sequence[MountedMember]) -> str:
    """The volumes that tell that etcd ran, by their tags, their data or their identity file."""
    told = [one.id for one in (*volumes.all, *volumes.evidence) if one.marked_bootstrapped]
    told += [volume for unparsable in volumes.unparsable.values() for volume in unparsable]
    told += [one.volume.id for one in members if one.has_data or _started(one)]
    return ", ".join(dict.fromkeys(told))


def _started(member: MountedMember) -> bool:
    text = member.contents.texts.get(IDENTITY_PATH)
    identity = parse_identity(text) if text is not None else None
    return isinstance(identity, Identity) and identity.started
