"""The operator's settings for this node, as far as decisions need them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from protokube.core.backup.model import BackupSettings
from protokube.core.disks.model import DiskSettings
from protokube.core.dns.model import DnsSettings
from protokube.core.etcd.model import EtcdSettings
from protokube.core.kubelet.model import KubeletSettings
from protokube.core.pki.model import PkiSettings
from protokube.core.volumes.model import VolumeSettings

if TYPE_CHECKING:
    from protokube.core.controlplane.model import ControlPlaneSettings
    from protokube.core.objects.model import ChannelSource


class NodeConfig(Struct, frozen=True):
    """The node's configuration, by concern. `master`: this is a control-plane node. `control_plane`: the API server
    and all that belongs to it run here, too; `components` says how;
    None where the configuration says nothing about it."""

    master: bool = False
    control_plane: bool = False
    volumes: VolumeSettings = VolumeSettings()
    disks: DiskSettings = DiskSettings()
    etcd: EtcdSettings = EtcdSettings()
    dns: DnsSettings = DnsSettings()
    kubelet: KubeletSettings = KubeletSettings()
    pki: PkiSettings = PkiSettings()
    components: ControlPlaneSettings | None = None
    backup: BackupSettings = BackupSettings()
    addons: tuple[ChannelSource, ...] = ()

    def for_dry_run(self) -> NodeConfig:
        """The configuration for a dry run, which reads once: it doesn't wait until answers have been the same."""
        return replace(self, etcd=replace(self.etcd, peers_patience=0.0))

    def foretold(self) -> NodeConfig:
        """The configuration for a predicted world: it doesn't wait for names that other nodes will write."""
        return replace(self, etcd=replace(self.etcd, names_patience=0.0))
