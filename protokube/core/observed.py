"""One immutable snapshot of the world: facts, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from protokube.core.backup.model import BackupFacts, KeptBackups
from protokube.core.disks.model import StorageFacts
from protokube.core.dns.model import RecordSet
from protokube.core.etcd.health import ClusterView
from protokube.core.etcd.model import PeerAnswers, ServedEtcd
from protokube.core.kubelet.model import KubeletFacts
from protokube.core.model import Moment, Unknown
from protokube.core.node.model import NodeFacts, UnitState
from protokube.core.objects.model import ObjectFacts
from protokube.core.pki.model import PkiFacts
from protokube.core.volumes.model import CloudSnapshot

if TYPE_CHECKING:
    from protokube.core.controlplane.model import Health


class Observed(Struct, frozen=True):
    """The facts of one snapshot. A part that could not be read is Unknown, never empty.

    `answers` has an entry for each etcd cluster whose members were asked, `served` for each whose member of ours was
    asked, `records` for each name that was read, `endpoints` for each of this node that was asked, `kept` for each
    etcd cluster about whose backups the store was asked.
    """

    at: Moment
    cloud: CloudSnapshot
    storage: StorageFacts = StorageFacts()
    node: NodeFacts = NodeFacts({})
    answers: Mapping[str, PeerAnswers | Unknown] = {}
    records: Mapping[str, RecordSet] | Unknown = {}
    kubelet: KubeletFacts = KubeletFacts()
    pki: PkiFacts = PkiFacts()
    endpoints: Mapping[str, Health | Unknown] = {}
    backups: BackupFacts = BackupFacts()
    served: Mapping[str, ServedEtcd | Unknown] = {}
    objects: ObjectFacts = ObjectFacts()
    health: Mapping[str, ClusterView] = {}
    kept: Mapping[str, KeptBackups | Unknown] = {}
    runtimes: Mapping[str, UnitState | Unknown] = {}
