"""What the operator configured for this node, as far as decisions need it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, field

from protokube.core.etcd.model import EtcdTemplate
from protokube.core.etcd.template import DEFAULT_IMAGE

if TYPE_CHECKING:
    from protokube.core.component.layers import Layer


class NodeConfig(Struct, frozen=True):
    """The node's configuration. Paths are without the root prefix, times are seconds.

    `etcd_image` is None unless the operator named one. `kubelet_unit` is None when no unit is to be started.
    `gate_timeout` is how long kubelet waits for volumes, counted from the program's start.
    `kubelet_proof_time` is how long kubelet has to stay up with new files before they count as good, and
    `kubelet_restarts` how often it is started or restarted within an hour.
    `peers_patience` is how long the peers of a member that is to join must have given the same answers.
    `dns_suffix` starts with a dot; `dns_removals` is how many records of gone owners are removed in a round.
    """

    master: bool = False
    cluster_id: str | None = None
    templates: Mapping[str, EtcdTemplate] = field(default_factory=dict)
    etcd_image: str | None = None
    default_image: str = DEFAULT_IMAGE
    etcd_bootstrap: bool = False
    may_format: bool = True
    peers_patience: float = 3.0
    manifest_dir: str = "/etc/kubernetes/manifests"
    dns: str = "hosts"
    dns_suffix: str | None = None
    dns_adopt: bool = False
    dns_removals: int = 2
    kubelet_unit: str | None = "kubelet.service"
    gate_timeout: float = 300.0
    kubelet_proof_time: float = 60.0
    kubelet_restarts: int = 6
    kubernetes_version: str | None = None
    kubelet_layers: tuple[Layer, ...] = ()
    master_kubelet_layers: tuple[Layer, ...] = ()
    group_kubelet_layers: Mapping[str, tuple[Layer, ...]] = field(default_factory=dict)
    node_labels: Mapping[str, str] = field(default_factory=dict)

    def suffix(self, cluster_id: str) -> str:
        """The internal names' suffix, with its leading dot."""
        return self.dns_suffix or f".internal.{cluster_id}"

    @property
    def private_dns(self) -> bool:
        """Whether names are kept in the node's own hosts file."""
        return self.dns == "hosts"
