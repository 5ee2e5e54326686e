"""The local cloud (`--cloud local`): an inventory whose volumes are disks of this machine, or images for trials."""

from __future__ import annotations

from protokube.cloudprovider.loopfile.elsewhere import Elsewhere
from protokube.cloudprovider.loopfile.evidence import Evidence
from protokube.cloudprovider.loopfile.volumes import ImageVolumes
from protokube.cloudprovider.static.disks import MachineDisks
from protokube.cloudprovider.static.inventory import Inventory, InventoryNode
from protokube.cloudprovider.static.provider import Addresses, StaticCloud, daemon_here

MANIFESTS = "/etc/kubernetes/manifests"


def local_cloud(
    inventory: Inventory, node: InventoryNode, addresses: Addresses, *, root: str = "/", manifests: str = MANIFESTS
) -> StaticCloud:
    """`node`'s view of the inventory; it is one of the inventory's nodes (see static.provider.own_node).

    Only mounts below `root` count as this node's. `manifests` is kubelet's folder, without the root. This
    process keeps attached disks that aren't mounted yet; they are free again when it ends.
    """
    daemon = daemon_here(node, root)
    evidence, elsewhere = Evidence(daemon.root, manifests), Elsewhere(daemon.root, inventory.volumes)
    images = ImageVolumes(inventory, daemon, evidence, elsewhere)
    return StaticCloud(inventory, node, daemon, addresses, (MachineDisks(inventory, node.name), images))
