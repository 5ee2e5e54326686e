"""look → **judge** → plan → act: each concern judges a snapshot once, in a fixed order, and sees the judgements
before it.

An assessment also says what is wanted next: facts to read, and directories to watch. A concern that the configuration
doesn't ask for isn't loaded: the modules of all of them would take a tenth of the time to a node's first link.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from protokube.core.backup.model import BackedUp, BackupAssessment
from protokube.core.controlplane.names import api_names as names_of_api
from protokube.core.controlplane.names import has_api_server
from protokube.core.disks.accepted import read_accepted
from protokube.core.disks.assess import assess as assess_disks
from protokube.core.disks.model import DisksAssessment
from protokube.core.dns.assess import assess as assess_dns
from protokube.core.dns.model import DnsAssessment, DnsFacts, names_with_addresses
from protokube.core.etcd.assess import assess as assess_etcd
from protokube.core.etcd.members import mounted_members
from protokube.core.etcd.model import EtcdAssessment, EtcdFacts, HealthQuestion, LocalMember
from protokube.core.etcd.serving import serving_members
from protokube.core.etcd.tls import pki_needs
from protokube.core.history import History
from protokube.core.kubelet.assess import assess as assess_kubelet
from protokube.core.kubelet.gate import Gate, gate
from protokube.core.kubelet.identity import held as held_by_kubelet
from protokube.core.kubelet.identity import serving_issued
from protokube.core.kubelet.model import KubeletAssessment, KubeletNode
from protokube.core.kubelet.paths import KUBECONFIG_PATH
from protokube.core.model import Unknown
from protokube.core.observed import Observed
from protokube.core.pki.assess import assess as assess_pki
from protokube.core.pki.model import PkiAssessment
from protokube.core.settings import NodeConfig
from protokube.core.steps import Findings
from protokube.core.volumes.assess import assess as assess_volumes
from protokube.core.volumes.model import CloudVolume, VolumesAssessment
from protokube.core.volumes.roles import judge_role

if TYPE_CHECKING:
    from protokube.core.controlplane.model import ControlPlaneAssessment
    from protokube.core.objects.model import ObjectKey, ObjectsAssessment


class Wanted(Struct, frozen=True):
    """The facts to read next, and the paths to watch.

    `disks`: volumes whose disk to read. `contents`: mounted volumes → their mount points. `questions`: etcd cluster →
    the peer URLs to ask → the member behind each. `names`: names whose records to read. `directories`: to watch,
    without the root prefix. `kubeconfig`: the file that tells kubelet its API server. `certificates`: whether the
    node's certificates concern it. `authorities`: the cluster whose authorities to read from the store. `backups`:
    the cluster, and its members here, whose backups concern this node; `backup_answers`: those of them about which
    the store and etcd are to be asked. `served`: our own members whose client port to ask, since they are to restart.
    `health`: how to ask after our etcd clusters, for the report.
    `kept`: the cluster, and those of its etcd clusters of which the store may have backups.
    `objects`: what to ask this node's API server for. `endpoints`: of this node, to ask for health. `runtimes`: units
    of container runtimes to read.
    """

    disks: tuple[CloudVolume, ...] = ()
    contents: Mapping[str, str] = {}
    questions: Mapping[str, Mapping[str, str]] = {}
    names: frozenset[str] = frozenset()
    directories: tuple[str, ...] = ()
    kubeconfig: str | None = None
    certificates: bool = False
    authorities: str | None = None
    backups: tuple[str, tuple[BackedUp, ...]] = ("", ())
    backup_answers: tuple[BackedUp, ...] = ()
    served: tuple[LocalMember, ...] = ()
    objects: tuple[ObjectKey, ...] = ()
    kept: tuple[str, tuple[str, ...]] = ("", ())
    health: tuple[HealthQuestion, ...] = ()
    endpoints: frozenset[str] = frozenset()
    runtimes: frozenset[str] = frozenset()


class Assessment(Struct, frozen=True):
    """The judgement of one snapshot, by concern. A worker, and a node whose cloud is silent, has only kubelet's."""

    findings: Findings = field(default_factory=Findings)
    volumes: VolumesAssessment | None = None
    disks: DisksAssessment | None = None
    pki: PkiAssessment | None = None
    etcd: EtcdAssessment | None = None
    backup: BackupAssessment | None = None
    dns: DnsAssessment | None = None
    kubelet: KubeletAssessment = field(default_factory=KubeletAssessment)
    objects: ObjectsAssessment | None = None
    control_plane: ControlPlaneAssessment | None = None
    wanted: Wanted = Wanted()


def assess(config: NodeConfig, observed: Observed, history: History) -> Assessment:
    """Judge a snapshot."""
    cloud, storage, node = observed.cloud, observed.storage, observed.node
    findings = judge_role(cloud, master=config.master)
    held = held_by_kubelet(observed.pki.certificates)
    kubelet_node = KubeletNode(observed.at, cloud.instance, node, observed.kubelet, held)
    kubelet_node = replace(kubelet_node, serving_issued=serving_issued(observed.pki.certificates))
    volumes = None
    if config.master:
        volumes = assess_volumes(config.volumes, cloud, history.attachments, storage.mounts, storage.barred)
    if volumes is None:
        closed = gate(config.etcd, node, None, None) if config.master else Gate()
        kubelet = assess_kubelet(config.kubelet, kubelet_node, history.units, closed)
        proxy = None
        if config.kubelet.api is not None and not config.master:
            from protokube.core.assess_control_plane import assess_joined

            proxy = assess_joined(config, observed)
        wanted = Wanted(kubeconfig=_kubeconfig(config))
        if proxy is not None:
            wanted = replace(wanted, endpoints=proxy.ask, runtimes=proxy.units)
        return Assessment(findings, kubelet=kubelet, control_plane=proxy, wanted=wanted)
    disks = assess_disks(config.disks, storage, history.attachments, (volumes, read_accepted(node.files)))
    named = names_with_addresses(observed.records)
    etcd_facts = EtcdFacts(
        observed.at.now,
        cloud,
        storage,
        node,
        observed.answers,
        named,
        observed.served,
        observed.health,
        observed.kept,
    )
    needs = pki_needs(config.etcd, etcd_facts, volumes, mounted_members(config.etcd, etcd_facts, disks))
    api_names = names_of_api(volumes.cluster_id, config.etcd.suffix(volumes.cluster_id))
    if config.control_plane:
        from protokube.core.assess_control_plane import node_certificates

        needs = replace(needs, wanted=(*needs.wanted, *node_certificates(config, volumes, api_names)))
    pki = assess_pki(config.pki, observed.pki, observed.at.now, needs)
    etcd = assess_etcd(config.etcd, etcd_facts, history.answers, (volumes, disks, pki))
    served = (volumes.cluster_id, serving_members(etcd))
    backup = None
    if config.backup.every is not None:
        from protokube.core.backup.assess import assess as assess_backups

        backup = assess_backups(config.backup, observed.backups, observed.at, history.backups, served)
    dns_facts = DnsFacts(cloud, observed.records, not isinstance(storage.mounts, Unknown))
    dns = assess_dns(config.dns, dns_facts, history.owners, (volumes, etcd))
    if not has_api_server(volumes):
        kubelet_node = replace(kubelet_node, api_host=api_names[0])
    kubelet = assess_kubelet(config.kubelet, kubelet_node, history.units, gate(config.etcd, node, volumes, disks))
    wanted = _wanted(config, disks, etcd, dns)
    wanted = replace(wanted, certificates=bool(pki.wanted), authorities=pki.cluster if pki.asks else None)
    if backup is not None:
        wanted = replace(wanted, backups=(backup.cluster, backup.members), backup_answers=backup.asks)
    wanted = replace(wanted, kept=(volumes.cluster_id, etcd.backed_up))
    plane, objects = None, None
    if config.control_plane:
        from protokube.core.assess_control_plane import assess_control_plane, assess_objects

        plane = assess_control_plane(config, observed, (volumes, pki, etcd), api_names[0])
        objects = assess_objects(config, observed, (volumes, pki), api_names)
    if plane is not None:
        wanted = replace(wanted, endpoints=plane.ask, runtimes=plane.units)
        if plane.served is not None and plane.served not in wanted.served:
            wanted = replace(wanted, served=(*wanted.served, plane.served))
    if objects is not None:
        wanted = replace(wanted, objects=tuple(one.key for one in objects.wanted))
    return Assessment(findings, volumes, disks, pki, etcd, backup, dns, kubelet, objects, plane, wanted)


def _wanted(config: NodeConfig, disks: DisksAssessment, etcd: EtcdAssessment, dns: DnsAssessment) -> Wanted:
    return Wanted(
        disks=tuple(one.volume for one in disks.attached),
        contents={one.id: one.target for one in disks.attached if one.id in disks.mounted},
        questions=etcd.questions,
        names=dns.names,
        directories=tuple(member.path(member.template.data_dir) for member in etcd.members),
        kubeconfig=_kubeconfig(config),
        served=etcd.asked,
        health=etcd.health,
    )


def _kubeconfig(config: NodeConfig) -> str | None:
    return KUBECONFIG_PATH if config.kubelet.unit is not None and config.kubelet.is_kubelet else None
