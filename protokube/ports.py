"""The ports: what the program asks of the world, as Protocols. Adapters execute; they never decide.

Every call has a time limit of its own and raises ProviderError when the world does not answer, or answers
with something that can't be understood. Nothing here detaches, unmounts or deletes a volume: what can't be
said can't go wrong.

Each port is split in two: reading, which planners and dry run get, and writing, which only apply gets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from protokube.core.disks.actions import CheckFilesystem, FormatVolume, GrowFilesystem, MountVolume
from protokube.core.disks.model import Disk, Mount, NoDisk, Tree
from protokube.core.dns.model import RecordChange, RecordSet
from protokube.core.etcd.model import EtcdPeerMember
from protokube.core.kubelet.model import KubeletBinary
from protokube.core.model import Unknown
from protokube.core.node.actions import MakeDirectory, MakeLink, Unlink, WriteFile
from protokube.core.node.model import FileState, UnitState
from protokube.core.volumes.model import CloudVolume, Instance, Peer

if TYPE_CHECKING:
    from protokube.core.kubelet.model import Machine


class CloudReader(Protocol):
    """What a cloud tells. `can_tag`: False once the cloud has refused to let us write tags.

    `remote`: it is asked over the network, and what happens on this machine doesn't change its answers.
    """

    remote: bool

    @property
    def can_tag(self) -> bool:
        """Whether tags can be written, as far as is known."""

    def instance(self) -> Instance:
        """Who and where this machine is."""

    def volumes(self) -> Sequence[CloudVolume]:
        """Every volume that may concern us, in all zones, with raw tags."""

    def peers(self) -> Sequence[Peer]:
        """The machines that hold etcd volumes, this one included, with their addresses."""


class CloudProvider(CloudReader, Protocol):
    """A cloud that can also be asked to act."""

    def attach(self, volume_id: str, device: str | None) -> None:
        """Ask for an attachment; returns at once.

        Raises VolumeInUse when somebody has it, DeviceNameTaken, VolumeRefused when it can't be this volume, and
        OutcomeUnknown when it may have been carried out all the same; ProviderError for the rest.
        """

    def tag(self, volume_id: str, key: str, value: str) -> None:
        """Write one tag."""

    def announce(self) -> None:
        """Let the other nodes know this one's addresses, where the cloud doesn't know them by itself."""

    def close(self) -> None:
        """Let go of what the provider keeps open."""


class DNSReader(Protocol):
    """What a DNS provider tells. `private`: only this node reads it, so it must hold all peers (hosts file)."""

    private: bool

    def record_sets(self, names: frozenset[str]) -> Mapping[str, RecordSet]:
        """What stands under each of the names; a name with nothing has an empty RecordSet."""


class DNSProvider(DNSReader, Protocol):
    """A DNS provider that can also be changed."""

    def change(self, changes: Sequence[RecordChange]) -> None:
        """Apply one batch; idempotent."""

    def recover(self) -> None:
        """Put right what a crash left half written. Called once, at the start."""


class DiskReader(Protocol):
    """What the machine's disks and mounts tell."""

    def inspect(self, volumes: Sequence[CloudVolume]) -> Mapping[str, Disk | NoDisk | Unknown]:
        """Find and judge the disk of each volume (all attached to this machine), side by side.

        A mounted disk is not touched (content Mounted). A disk whose lock is held is Working. Everything that
        reads an unmounted disk runs in a child process with a limit; one that hangs is Unknown, and no second
        one is started for it.
        """

    def names(self) -> frozenset[str]:
        """The device names that the kernel knows (/dev/xvdf, …), so that none is asked for twice."""

    def mounts(self) -> Sequence[Mount]:
        """The mounts of this mount namespace that lie below the root, from mountinfo and sysfs, without I/O."""

    def tree(self, target: str) -> Tree:
        """What a mounted volume holds; `target` is its mount point without the root prefix."""


class Disks(DiskReader, Protocol):
    """The machine's disks, to act on. Format, check and grow are started, not awaited."""

    def format(self, action: FormatVolume) -> None:
        """Prove blankness under the disk's lock, then mkfs.ext4. Never killed."""

    def check(self, action: CheckFilesystem) -> None:
        """e2fsck -p under the disk's lock. Never killed."""

    def grow(self, action: GrowFilesystem) -> None:
        """resize2fs under the disk's lock. Never killed."""

    def mount(self, action: MountVolume) -> None:
        """Mount the disk, after checking again that it is this disk with this filesystem."""


class FileReader(Protocol):
    """What the node's files tell. Paths are without the root prefix."""

    def read(self, paths: Sequence[str]) -> Mapping[str, FileState]:
        """The state of each path, not following a link at its end."""

    def listing(self, directory: str) -> Mapping[str, FileState]:
        """The state of each entry of a directory, by full path; empty when the directory is absent."""


class Files(FileReader, Protocol):
    """The node's files, to act on. Every write is atomic and on disk when the call returns."""

    def make_directory(self, action: MakeDirectory) -> None:
        """Make a directory."""

    def write(self, action: WriteFile) -> None:
        """Write beside, fsync, rename, fsync the directory."""

    def link(self, action: MakeLink) -> None:
        """A fresh relative link, renamed over the old one."""

    def unlink(self, action: Unlink) -> None:
        """Remove a link; absent is fine."""


class EtcdPeers(Protocol):
    """Asks etcd's peer port who its members are."""

    def members(self, peer_url: str) -> Sequence[EtcdPeerMember]:
        """The member list that the peer at a URL answers with."""


class ServiceReader(Protocol):
    """What the service manager tells."""

    def state(self, unit: str) -> UnitState:
        """The state of a unit; a unit that isn't there has load `not-found`."""


class ServiceManager(ServiceReader, Protocol):
    """The service manager, to act on."""

    def start(self, unit: str) -> None:
        """Start a unit."""

    def restart(self, unit: str) -> None:
        """Restart a unit, reloading the manager first when the unit's file has changed."""


class KubeletProbe(Protocol):
    """What is known of this machine and of the kubelet that is installed on it."""

    def machine(self) -> Machine:
        """Memory, CPUs and the like."""

    def kubelet(self) -> KubeletBinary | None:
        """The installed kubelet; asked once per binary. None when none is installed."""


class Readers(Struct, frozen=True):
    """All that observing needs. `dns` and `services` are None when nothing is to be kept there."""

    cloud: CloudReader
    disks: DiskReader
    files: FileReader
    etcd: EtcdPeers
    probe: KubeletProbe
    dns: DNSReader | None
    services: ServiceReader | None


class Writers(Struct, frozen=True):
    """All that applying needs."""

    cloud: CloudProvider
    disks: Disks
    files: Files
    dns: DNSProvider | None
    services: ServiceManager | None
