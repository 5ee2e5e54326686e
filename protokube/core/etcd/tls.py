"""Which etcd members speak TLS, and the certificates that they need.

A cluster begins with TLS or without. It goes on as it began, unless it is moved to TLS on demand (migration.py), and
never goes back. What runs is told by the manifest and the identity file on the volume, else by the URLs that peers
answer; only a new cluster follows the settings.

Peers are known by names alone, never by addresses: a member that moves keeps its certificate. Every peer certificate
has its own name and one that all peers of the etcd cluster share. The accepting side checks the shared one
(peer-cert-allowed-hostname) and no longer looks the client's names up: that kept a moved member out until every
other member's name service knew its new address (measured with etcd 3.4.23, 3.5.16, 3.5.30).
"""

from __future__ import annotations

from collections.abc import Sequence

from protokube.core.disks.identity import Identity, parse_identity
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.etcd.migration import wants_tls
from protokube.core.etcd.model import (
    EtcdFacts,
    EtcdPeerMember,
    EtcdSettings,
    EtcdTemplate,
    MountedMember,
    PeerAnswers,
)
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
    if present.startswith("https:") or _ran_with_tls(member):
        return True
    if member.has_data or not member.template.supports_tls:
        return False
    return settings.tls == "on" or (settings.tls == "auto" and settings.store_shared)


def uses_tls(settings: EtcdSettings, member: MountedMember, answers: PeerAnswers | Unknown | None) -> bool:
    """Whether a member speaks TLS: as its manifest and its identity file say, else as its peers do, else as a new
    cluster would.

    The manifest may be gone from the volume of a member that ran. Without TLS it would neither reach its peers nor be
    reached, and its client port would be open.
    """
    lists = answers.lists.values() if isinstance(answers, PeerAnswers) else ()
    listed = [peer for one in lists for peer in one]
    name = member.template.member_name(member.volume.member.me)
    ours = any(_secure(peer) for peer in listed if name in (peer.name, _host(peer)))
    if member.has_data:
        return may_use_tls(settings, member) or (not member.manifest and ours)
    if not listed or not may_use_tls(settings, member):
        return may_use_tls(settings, member)
    return ours if any(name in (peer.name, _host(peer)) for peer in listed) else any(map(_secure, listed))


def _secure(peer: EtcdPeerMember) -> bool:
    return any(url.startswith("https:") for url in peer.peer_urls)


def _host(peer: EtcdPeerMember) -> str:
    """The first label of a listed member's name; of one that never started nothing else tells who it is."""
    return peer.peer_urls[0].partition("//")[2].partition(".")[0]


def _ran_with_tls(member: MountedMember) -> bool:
    identity = _identity(member)
    return identity is not None and identity.tls


def clients_address(settings: EtcdSettings, volumes: VolumesAssessment) -> str:
    """The address at which a member with TLS listens to clients of other nodes; empty where it doesn't.

    It is one: a member that can't listen at an address doesn't start, and the second one, mostly IPv6, may come late.
    """
    return volumes.instance.internal[0] if settings.node_clients and volumes.instance.internal else ""


def member_certificates(member: MountedMember, suffix: str, clients: str = "") -> tuple[CertificateWanted, ...]:
    """The certificates of a member.

    Both are for servers and for clients: peers dial one another, and etcd's JSON gateway dials its own client port
    with the server's certificate (etcd-io/etcd 9785). `clients` is the node's address where clients come to it, and
    empty else.
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
            addresses=("127.0.0.1", "::1", *((clients,) if clients else ())),
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
    secured = [
        one
        for one in members
        if wants_tls(settings, one) or uses_tls(settings, one, facts.answers.get(one.volume.member.cluster))
    ]
    clients = clients_address(settings, volumes)
    wanted = [one for member in secured for one in member_certificates(member, suffix, clients)]
    if secured:
        wanted.append(CertificateWanted(CLIENT, ETCD_CLIENTS, "kube-apiserver-etcd-client", client=True))
    authorities = tuple(etcd_peers(cluster) for cluster in sorted(settings.templates))
    return PkiNeeds(volumes.cluster_id, tuple(wanted), authorities, _evidence(volumes, members))


def _evidence(volumes: VolumesAssessment, members: Sequence[MountedMember]) -> str:
    """The volumes that tell that etcd ran, by their tags, their data or their identity file."""
    told = [one.id for one in (*volumes.all, *volumes.evidence) if one.marked_bootstrapped]
    told += [volume for unparsable in volumes.unparsable.values() for volume in unparsable]
    told += [one.volume.id for one in members if one.has_data or _started(one)]
    return ", ".join(dict.fromkeys(told))


def _started(member: MountedMember) -> bool:
    identity = _identity(member)
    return identity is not None and identity.started


def _identity(member: MountedMember) -> Identity | None:
    text = member.contents.texts.get(IDENTITY_PATH)
    identity = parse_identity(text) if text is not None else None
    return identity if isinstance(identity, Identity) else None
