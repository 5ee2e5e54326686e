"""The ports: all questions and requests to the world, as Protocols. Adapters execute; they never decide.

Every call has a time limit of its own and raises ProviderError when the world does not answer, or its answer can't
be understood. No call detaches, unmounts or deletes a volume: a bug can't do it either.

Each port is split in two. The reading half stands here, and observing and dry run get no other. The acting half
stands with the actions that it carries out, in the concern's `actions.py`; only applying gets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from protokube.core.disks.actions import DiskWriter
from protokube.core.disks.model import Disk, NoDisk, VolumeContents
from protokube.core.dns.actions import RecordWriter
from protokube.core.dns.model import RecordSet
from protokube.core.etcd.health import ClusterView
from protokube.core.etcd.model import EtcdPeerMember, HealthQuestion, LocalMember, ServedEtcd
from protokube.core.etcd.running import PeerAbout
from protokube.core.kubelet.model import KubeletBinary, Machine
from protokube.core.model import Unknown
from protokube.core.node.actions import FileWriter, UnitStarter
from protokube.core.node.model import FileState, Mount, UnitState
from protokube.core.pki.model import Authorities, Certificate, Damaged, NoAuthorities
from protokube.core.volumes.actions import CloudWriter
from protokube.core.volumes.model import CloudSnapshot, CloudVolume

if TYPE_CHECKING:
    from protokube.core.backup.model import BackedUp, BackupAnswers, BackupWork, KeptBackups
    from protokube.core.controlplane.model import Health
    from protokube.core.objects.model import ObjectFacts, ObjectKey


class CloudReader(Protocol):
    """The reading half of a cloud. `remote`: it is asked over the network, and events on this machine don't change
    its answers."""

    remote: bool

    def snapshot(self, *, volumes: bool) -> CloudSnapshot:
        """This machine, every volume that may concern it, in all zones and with raw tags, and the machines that hold
        them. `volumes` is False on a worker, which takes none: only this machine is asked for then.

        A part that could not be read is Unknown. Raises ProviderError when nothing is known.
        """

    def cluster_id(self) -> str:
        """The cluster that this machine belongs to, by the cloud's tags."""


class CloudProvider(CloudReader, CloudWriter, Protocol):
    """A cloud that can also be asked to act."""

    def close(self) -> None:
        """Close connections and files that the provider keeps open."""


class DNSReader(Protocol):
    """The reading half of a DNS provider.

    `private`: only this node reads it, so it must hold all peers (hosts file). `local`: reading costs no call over
    the network. `watch` are files whose changes matter.
    """

    private: bool
    local: bool
    watch: tuple[Path, ...]

    def record_sets(self, names: frozenset[str]) -> Mapping[str, RecordSet]:
        """The records under each of the names; a name without any has an empty RecordSet."""


class DNSProvider(DNSReader, RecordWriter, Protocol):
    """A DNS provider that can also be changed."""

    def recover(self) -> None:
        """Mend a file that a crash left half written. Called once, at the start."""


class DiskReader(Protocol):
    """The reading half of the machine's disks and mounts."""

    def inspect(self, volumes: Sequence[CloudVolume]) -> Mapping[str, Disk | NoDisk | Unknown]:
        """Find and judge the disk of each volume (all attached to this machine), side by side.

        A mounted disk is not touched (content Mounted). A disk whose lock is held is Working. Everything that
        reads an unmounted disk runs in a child process with a limit; one that hangs is Unknown, and no second
        one is started for it.
        """

    def mounts(self) -> Sequence[Mount]:
        """The mounts of this mount namespace that lie below the root, by the paths that plans give them, without I/O
        on any of them."""

    def barred(self) -> Mapping[str, str]:
        """What bars the way to a mount point, by its path or by that of the directory above all of them."""

    def contents(self, target: str) -> VolumeContents:
        """The contents of a mounted volume; `target` is its mount point without the root prefix."""


class Disks(DiskReader, DiskWriter, Protocol):
    """The machine's disks, to act on."""


class FileReader(Protocol):
    """The reading half of the node's files. Paths are without the root prefix."""

    def read(self, paths: Sequence[str]) -> Mapping[str, FileState]:
        """The state of each path, not following a link at its end."""

    def listing(self, directory: str) -> Mapping[str, FileState]:
        """The state of each entry of a directory, by full path; empty when the directory is absent."""


class Files(FileReader, FileWriter, Protocol):
    """The node's files, to act on."""


class StoredObject(Struct, frozen=True):
    """An object of a store, and the version that a change of it must name."""

    content: bytes
    version: str

    def __repr__(self) -> str:
        """Without the content, which may be secret."""
        return f"StoredObject({len(self.content)} bytes, version {self.version})"


class StoreReader(Protocol):
    """The reading half of a store. Names are relative paths of plain segments.

    Every call raises StoreError when the store doesn't answer, or when the answer can't be understood: an object that
    can't be read is never absent.
    """

    def get(self, name: str) -> StoredObject | None:
        """An object; None when the store says that there is none."""

    def list(self, prefix: str) -> Sequence[str]:
        """The names of all objects below `prefix`, which is empty or ends with a slash; sorted."""


class Store(StoreReader, Protocol):
    """A store that can also be written. What a call has written is durable when the call returns.

    A call that fails may have had its effect: read the object again.
    """

    def put_if_absent(self, name: str, content: bytes) -> bool:
        """Make an object. False when there is one already; of several writers exactly one gets True."""

    def compare_and_swap(self, name: str, content: bytes, version: str) -> bool:
        """Replace an object that still has this version. False when it has another one, or is gone."""


class BulkStore(Store, Protocol):
    """A store that also takes objects too big for memory, and gives them up again.

    Nothing of them is ever held in memory as a whole. `path` is a file of this machine.
    """

    def put_file_if_absent(self, name: str, path: Path) -> bool:
        """Make an object of a file's content. False when there is one already."""

    def get_file(self, name: str, path: Path) -> bool:
        """Write an object's content to a new file, for root alone. False when the store says that there is none.

        The file may be incomplete when this raises.
        """

    def delete(self, name: str) -> None:
        """Delete a backup's object; one that is gone is fine. Any other object's name is a ValueError: nothing else
        is ever deleted."""


class PkiReader(Protocol):
    """The reading half of a node's PKI."""

    def certificates(self) -> Mapping[str, Certificate | Damaged | Unknown]:
        """The certificates in the node's directory, by name."""

    def clock_in_sync(self) -> bool:
        """Whether a time service has synchronised the clock."""

    def authorities(self, cluster: str) -> Authorities | NoAuthorities:
        """The public side of a cluster's authorities. Asks the store; raises StoreError when it gives no answer."""


class BackupReader(Protocol):
    """The reading half of a node's backups of etcd."""

    def work(self, etcds: Iterable[str]) -> Mapping[str, BackupWork | Unknown]:
        """The work on each etcd cluster's backups on this machine. Asks nobody."""

    def kept(self, cluster: str, etcd: str) -> KeptBackups:
        """The backups of an etcd cluster in the store, as evidence that it ran. Raises StoreError when the store
        gives no answer."""

    def answers(self, cluster: str, member: BackedUp) -> BackupAnswers:
        """The backups of a member's etcd cluster in the store, and whether the member leads. Raises StoreError when
        the store gives no answer."""


class ObjectReader(Protocol):
    """The reading half of this machine's API server."""

    def changed(self) -> bool:
        """Whether something has come since the last look that can't wait for the next one. Asks nobody."""

    def look(self, keys: Sequence[ObjectKey]) -> ObjectFacts:
        """The objects of these names, if the API server is ready; else why it isn't."""


class EtcdPeers(Protocol):
    """Asks etcd's peer port who its members are, and what it runs."""

    def members(self, peer_url: str, cluster: str) -> Sequence[EtcdPeerMember]:
        """The member list that the peer of an etcd cluster at a URL answers with; over TLS where the URL says https,
        with the node's peer certificate of that cluster."""

    def about(self, peer_url: str, cluster: str) -> PeerAbout:
        """What the peer at a URL runs, and what its clock says."""


class EtcdReader(Protocol):
    """The reading half of this machine's own etcd members."""

    def served(self, member: LocalMember) -> ServedEtcd:
        """What a member serves, read with quorum."""

    def health(self, question: HealthQuestion) -> ClusterView:
        """How an etcd cluster is. What doesn't answer is Unknown in it."""


class ServiceReader(Protocol):
    """The reading half of the service manager."""

    def state(self, unit: str) -> UnitState:
        """The state of a unit; a unit that isn't there has load `not-found`."""

    def program(self, unit: str) -> str | None:
        """The program that the unit starts (its ExecStart's path, without the root prefix); None when it has none."""


class ServiceManager(ServiceReader, UnitStarter, Protocol):
    """The service manager, to act on."""


class KubeletProbe(Protocol):
    """Facts of this machine and of the kubelet that is installed on it."""

    def machine(self) -> Machine:
        """Memory, CPUs and the like."""

    def kubelet(self, named: str | None = None) -> KubeletBinary | None:
        """The kubelet that the unit names, else the installed one; asked once per binary. None when there is none."""


class HealthReader(Protocol):
    """Asks programs of this node, and the API servers of the others, for their health."""

    def ask(self, url: str) -> Health:
        """The answer of an endpoint, whatever its status. /version of an API server is asked with this node's
        certificate, since the anonymous may not see it. Raises ProviderError when there is no answer,
        NotListeningError when nobody listens."""


class Readers(Struct, frozen=True):
    """All that observing needs. `dns` and `services` are None when protokube keeps nothing there."""

    cloud: CloudReader
    disks: DiskReader
    files: FileReader
    etcd: EtcdPeers
    probe: KubeletProbe
    dns: DNSReader | None
    services: ServiceReader | None
    pki: PkiReader
    backups: BackupReader
    server: EtcdReader
    objects: ObjectReader
    endpoints: HealthReader


Writers = Mapping[str, object]
"""All that applying needs: the acting half of each port, by the name that actions give for it."""
