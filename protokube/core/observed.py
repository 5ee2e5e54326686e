"""One immutable snapshot of the world, made of facets that are read separately."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, field

from protokube.core.disks.model import Disk, Mount, NoDisk, Tree
from protokube.core.dns.model import RecordSet
from protokube.core.etcd.model import PeerAnswers
from protokube.core.kubelet.model import KubeletBinary
from protokube.core.model import Unknown
from protokube.core.node.model import FileState, UnitState
from protokube.core.volumes.arrivals import Arrivals
from protokube.core.volumes.model import CloudVolume, Instance, Peer

if TYPE_CHECKING:
    from protokube.core.kubelet.model import Machine


class Observed(Struct, frozen=True):
    """What a round knows. A facet that could not be read is Unknown, never empty.

    `now` is seconds since the epoch, `uptime` seconds since the program started. `disks`, `trees` and
    `members` hold an entry for each volume (or etcd cluster) that was looked at: volumes attached here, mounted
    volumes of ours, and etcd clusters whose members must be asked. `files` holds the paths that were asked for
    and every entry of the manifest folder. `unit` is None when there is no unit to start. `kubelet` is None when
    none is installed. `taken_devices` are device names in use by nothing that the cloud shows (a refused attach or
    the kernel tells), each with the seconds since that was first seen;
    `failed` are the subjects of this round's failed actions; `asked` are volumes that this round asked the cloud
    for and may have got, `hidden` those that were asked for, or shown as this machine's, seconds ago and aren't shown
    as anybody's now, `refused` those that the cloud won't give us; `removed` is how many records of gone owners this
    round has asked to remove; `holds` says for a subject how many seconds it is
    to be left alone, since it was tried too often; `arrivals` since when volumes of ours have been on their way;
    `answers_for` for how many seconds an etcd cluster's members have given the same answers.
    `assumed` (prediction only) says for a volume what the world has yet to confirm.
    """

    now: float
    uptime: float
    instance: Instance | Unknown
    volumes: tuple[CloudVolume, ...] | Unknown
    peers: tuple[Peer, ...] | Unknown = ()
    can_tag: bool = True
    mounts: tuple[Mount, ...] | Unknown = ()
    disks: Mapping[str, Disk | NoDisk | Unknown] = field(default_factory=dict)
    kernel_devices: frozenset[str] | Unknown = frozenset()
    trees: Mapping[str, Tree | Unknown] = field(default_factory=dict)
    files: Mapping[str, FileState] | Unknown = field(default_factory=dict)
    members: Mapping[str, PeerAnswers | Unknown] = field(default_factory=dict)
    records: Mapping[str, RecordSet] | Unknown = field(default_factory=dict)
    unit: UnitState | Unknown | None = None
    kubelet: KubeletBinary | Unknown | None = None
    taken_devices: Mapping[str, float] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    removed: int = 0
    holds: Mapping[str, float] = field(default_factory=dict)
    machine: Machine | None = None
    absent_for: Mapping[str, float] = field(default_factory=dict)
    arrivals: Arrivals = Arrivals()
    answers_for: Mapping[str, float] = field(default_factory=dict)
    assumed: Mapping[str, str] = field(default_factory=dict)
