"""The local cloud: an inventory file says what a cloud would, loop devices stand for attached volumes.

The holder of a `file` volume is whoever's loop device holds the lock (flock) on its image: it is taken on the
open file that the loop device then keeps, so it lasts as long as the device is in use (by this process, by a
tool at work on it, by a mount) and ends with it, even by kill or power cut. The holder's name is what the state
file beside the image remembers. A `device` volume belongs to its machine.
"""

from __future__ import annotations

import ipaddress
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from protokube.cloudprovider.loopfile import devices as loop
from protokube.cloudprovider.loopfile import images
from protokube.cloudprovider.loopfile import state as memory
from protokube.cloudprovider.loopfile.images import Look
from protokube.cloudprovider.loopfile.state import Holder, Memory
from protokube.cloudprovider.static.inventory import (
    Inventory,
    InventoryNode,
    InventoryVolume,
    is_node_name,
    read_inventory,
)
from protokube.core.model import Fault
from protokube.core.volumes.model import Attachment, AttachState, CloudVolume, DiskIdentity, Instance, Peer
from protokube.errors import ConfigError, ProviderError, VolumeInUseError, explain

_NOBODY_KNOWN = "an unknown holder"


def load_inventory(path: str) -> Inventory:
    """The inventory at `path`; ConfigError with every fault."""
    full = os.path.abspath(path)  # noqa: PTH100 - lexical: messages name the path as the operator knows it
    try:
        text = Path(full).read_bytes().decode()
    except OSError as error:
        raise ConfigError([Fault(full, f"the inventory can't be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Fault(full, f"the inventory is not UTF-8: {error}")]) from error
    inventory = read_inventory(text, full)
    if not isinstance(inventory, Inventory):
        raise ConfigError(inventory)
    return inventory


def own_node(inventory: Inventory, name: str) -> InventoryNode:
    """The node of that name; ConfigError when the inventory has others, but not this one."""
    if not inventory.nodes:
        if not is_node_name(name):
            wanted = "a host name in lower case, at most 63 characters, was expected"
            raise ConfigError([Fault("node", f"{name!r} where {wanted}: give one with --node")])
        return InventoryNode(name)
    found = next((node for node in inventory.nodes if node.name == name), None)
    if found is None:
        known = ", ".join(node.name for node in inventory.nodes)
        raise ConfigError(
            [Fault(f"{inventory.path} nodes", f"no node is named {name!r}, known are {known}: see --node")]
        )
    return found


class LocalCloud:
    """One node's view of an inventory; implements `ports.CloudProvider`.

    `node` is this node, one of the inventory's (see own_node). `addresses` gives the addresses of the machine's
    default route, for a node whose internalAddress isn't in the inventory. Only mounts below `root` count as this
    node's. What is attached and not yet mounted is kept by this process and is free again when it ends.
    """

    def __init__(
        self, inventory: Inventory, node: InventoryNode, addresses: Callable[[], tuple[str, ...]], root: str = "/"
    ) -> None:
        self._inventory = inventory
        self._node = node
        self._addresses = addresses
        self._root = os.path.realpath(root)
        self._namespace = str(Path("/proc/self/ns/mnt").readlink())
        self._kept: dict[tuple[int, int], int] = {}
        """Loop devices that this process keeps open, by the file behind them."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of what is attached and not mounted."""
        with self._lock:
            while self._kept:
                os.close(self._kept.popitem()[1])

    can_tag = True
    remote = False

    # --- reading -------------------------------------------------------------------------------

    def instance(self) -> Instance:
        """This node, named as in the inventory; IPv4 addresses before IPv6."""
        return Instance(
            id=self._node.name,
            name=self._node.name,
            zone=self._inventory.zone,
            cluster_id=self._inventory.cluster,
            internal=self._internal(),
            external=_maybe(self._node.external),
            instance_group=self._node.instance_group,
        )

    def volumes(self) -> Sequence[CloudVolume]:
        """Every volume of the inventory, with the tags that were set since. Nothing is made or written.

        A volume that can't serve (an image of another size, a missing device) says so in its status, and isn't
        available.
        """
        with self._lock:
            ours = self._ours()
            looks = self._looks()
            return [self._describe(volume, looks.get(volume.id), ours) for volume in self._inventory.volumes]

    def peers(self) -> Sequence[Peer]:
        """This node, the recorded holders of held volumes, and the nodes with `members`.

        All of them count as running: the local cloud can't tell a dead node from a silent one.
        """
        peers = {node.name: self._peer(node) for node in self._inventory.nodes if node.members}
        with self._lock:
            ours, looks = self._ours(), self._looks()
        for volume in self._inventory.volumes:
            remembered = memory.load(volume.state).holder
            name = self._holder(volume, looks.get(volume.id), ours, remembered)
            if name == self._node.name and remembered is None:
                peers[name] = self._peer(self._node)
            elif name and remembered and name not in peers:
                peers[name] = Peer(name, remembered.internal, remembered.external)
            elif name and remembered:
                peers[name] = replace(peers[name], internal=remembered.internal, external=remembered.external)
        return list(peers.values())

    # --- acting --------------------------------------------------------------------------------

    def attach(self, volume_id: str, device: str | None) -> None:  # noqa: ARG002 - the kernel chooses the loop device
        """Bind the image to a loop device, under its lock; the image is made now if it has none yet.

        Attaching what is attached here already does nothing. A crash before the mount undoes it.
        """
        volume = self._find(volume_id)
        if volume.image is None:
            trouble = _device_trouble(volume)
            if trouble:
                raise ProviderError(f"attach {volume_id}: {trouble}")
            return
        with self._lock:
            remembered = memory.load(volume.state)
            look = self._looks()[volume.id]
            holder = self._holder(volume, look, self._ours(), remembered.holder)
            if look.trouble:
                raise ProviderError(f"attach {volume_id}: {look.trouble}")
            if holder == self._node.name:
                return
            self._bind(volume, volume.image, remembered, holder or _NOBODY_KNOWN)

    def tag(self, volume_id: str, key: str, value: str) -> None:
        """Remember a tag of a volume that this node holds."""
        volume = self._find(volume_id)
        with self._lock:
            remembered = self._remembered_as_ours(volume)
            if remembered is None:
                raise ProviderError(f"tag {volume_id} {key}={value}: only its holder may tag it, attach it first")
            self._remember(volume, replace(remembered, tags={**remembered.tags, key: value}), remembered)

    def announce(self) -> None:
        """Bring what other nodes read about this holder up to date; writes only what has changed.

        A cloud knows its machines' addresses by itself. Here the holder must say them, whenever they change.
        """
        myself = self._myself()
        with self._lock:
            for volume in self._inventory.volumes:
                remembered = self._remembered_as_ours(volume)
                if remembered is not None and remembered.holder != myself:
                    self._remember(volume, replace(remembered, holder=myself), remembered)

    # --- inside, under the lock ----------------------------------------------------------------

    def _bind(self, volume: InventoryVolume, image_path: str, remembered: Memory, holder: str) -> None:
        image = images.open_locked(image_path, volume.size, holder)
        try:
            info = os.fstat(image)
            file = (info.st_dev, info.st_ino)
            if file in loop.bound():
                raise VolumeInUseError(
                    f"attach {image_path}: another program's loop device has it: find it with losetup -l, detach it"
                )
            # Before the loop device is there: whoever sees the device must read its true holder.
            self._remember(volume, replace(remembered, holder=self._myself()), remembered)
            with explain(f"attach {image_path}", images.ADVICE):
                self._kept[file] = loop.bind(image)
        finally:
            os.close(image)

    def _remembered_as_ours(self, volume: InventoryVolume) -> Memory | None:
        """What is remembered of a volume that this node holds; None when it doesn't."""
        remembered = memory.load(volume.state)
        look = images.look(volume.image, volume.size) if volume.image else None
        return remembered if self._holder(volume, look, self._ours(), remembered.holder) == self._node.name else None

    def _remember(self, volume: InventoryVolume, memo: Memory, before: Memory) -> None:
        if memo != before:
            with explain(f"write {volume.state}", images.ADVICE):
                memory.save(volume.state, memo)

    def _ours(self) -> set[tuple[int, int]]:
        """The files behind loop devices that this node holds: mounted below the root, or kept by this process."""
        mounted = loop.mounted_below(self._root)
        for file in mounted & self._kept.keys():
            os.close(self._kept.pop(file))  # the mount keeps it from here on
        return mounted | self._kept.keys()

    # --- inside --------------------------------------------------------------------------------

    def _looks(self) -> Mapping[str, Look]:
        """The image of every `file` volume, by the volume's id."""
        found = {v.id: images.look(v.image, v.size) for v in self._inventory.volumes if v.image}
        shared = {file for file, count in Counter(look.file for look in found.values()).items() if file and count > 1}
        trouble = "its image is also another volume's, by a link: give each volume a file of its own"
        return {name: replace(look, trouble=trouble) if look.file in shared else look for name, look in found.items()}

    def _holder(
        self, volume: InventoryVolume, look: Look | None, ours: set[tuple[int, int]], remembered: Holder | None
    ) -> str | None:
        """The instance that holds a volume, None when nobody does."""
        if look is None:
            return None if _device_trouble(volume) else self._node.name
        if look.file in ours:
            return self._node.name
        if not look.held:
            return None
        if remembered is None:
            return _NOBODY_KNOWN
        if remembered.same_daemon(self._myself(())) and look.file in loop.bound():
            return self._node.name  # a tool that outlived an earlier process of this node is at work on it
        if remembered.node == self._node.name:
            return f"{remembered.node} (another daemon, with root {remembered.root})"
        return remembered.node

    def _describe(self, volume: InventoryVolume, look: Look | None, ours: set[tuple[int, int]]) -> CloudVolume:
        remembered = memory.load(volume.state)
        holder = self._holder(volume, look, ours, remembered.holder)
        trouble = look.trouble if look else _device_trouble(volume)
        attached = Attachment(holder, volume.device, AttachState.ATTACHED) if holder else None
        return CloudVolume(
            id=volume.id,
            zone=volume.zone,
            size=volume.size,
            tags={**volume.tags, **remembered.tags},
            status=f"error: {trouble}" if trouble else "in-use" if attached else "available",
            attachments=(attached,) if attached else (),
            identity=DiskIdentity(backing=look.file if look else None, path=volume.device),
            pristine=True if look and look.pristine else None,
        )

    def _peer(self, node: InventoryNode) -> Peer:
        internal = self._internal() if node.name == self._node.name else _maybe(node.internal)
        return Peer(node.name, internal, _maybe(node.external), members=node.members)

    def _internal(self) -> tuple[str, ...]:
        if self._node.internal:
            return (self._node.internal,)
        return tuple(sorted(self._addresses(), key=lambda address: ipaddress.ip_address(address).version))

    def _myself(self, internal: tuple[str, ...] | None = None) -> Holder:
        addresses = self._internal() if internal is None else internal
        return Holder(self._node.name, addresses, _maybe(self._node.external), self._root, self._namespace)

    def _find(self, volume_id: str) -> InventoryVolume:
        found = next((volume for volume in self._inventory.volumes if volume.id == volume_id), None)
        if found is None:
            raise ProviderError(f"{self._inventory.path} has no volume {volume_id!r}")
        return found


def _device_trouble(volume: InventoryVolume) -> str | None:
    """Why a `device` volume can't serve on this machine; None when it can."""
    device = volume.device or ""
    try:
        mode = Path(device).stat().st_mode
    except FileNotFoundError:
        return f"{device} is not on this machine"
    except OSError as error:
        raise ProviderError(f"look at {device}: {error.strerror}") from error
    return None if stat.S_ISBLK(mode) else f"{device} is not a block device"


def _maybe(address: str | None) -> tuple[str, ...]:
    return (address,) if address else ()
