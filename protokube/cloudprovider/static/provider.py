"""One node's view of an inventory, with the state files beside it; implements `ports.CloudProvider`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from protokube.cloudprovider.static import state
from protokube.cloudprovider.static.inventory import (
    Inventory,
    InventoryNode,
    InventoryVolume,
    is_node_name,
    read_inventory,
)
from protokube.cloudprovider.static.kinds import ADVICE, Seen, VolumeKind
from protokube.cloudprovider.static.state import Daemon, Holder, State
from protokube.core.model import Fault, Unknown
from protokube.core.volumes.model import Attachment, AttachState, CloudSnapshot, CloudVolume, Instance, Peer
from protokube.errors import ConfigError, ProviderError, explain

T = TypeVar("T")
Addresses = Callable[[tuple[str, ...]], tuple[str, ...]]
"""This machine's addresses now, IPv4 before IPv6, given the ones that were announced last."""


def load_inventory(path: str) -> Inventory:
    """Read the inventory at `path`. Raises ConfigError with every fault."""
    full = os.path.abspath(path)  # noqa: PTH100 - lexical: messages name the path as the operator knows it
    try:
        text = Path(full).read_bytes().decode()
    except OSError as error:
        advice = "the local cloud needs one; write it there, or name it with --inventory; on EC2 give --cloud aws"
        raise ConfigError([Fault(full, f"the inventory can't be read: {error.strerror} ({advice})")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Fault(full, f"the inventory is not UTF-8: {error}")]) from error
    inventory = read_inventory(text, full)
    if not isinstance(inventory, Inventory):
        raise ConfigError(inventory)
    return inventory


def own_node(inventory: Inventory, name: str) -> InventoryNode:
    """The node of that name. Raises ConfigError when the inventory has others, but not this one."""
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


class _Known(Struct, frozen=True):
    """A volume as one look found it: its part of the inventory, its state file, and its disk."""

    volume: InventoryVolume
    state: State
    seen: Seen


class StaticCloud:
    """One node's view of an inventory.

    `node` is this node (see own_node), `daemon` tells this process from others that go by its name. `addresses`
    serves a node whose internalAddress isn't in the inventory. `kinds` are the kinds of disk that volumes have.
    """

    remote = False

    def __init__(
        self,
        inventory: Inventory,
        node: InventoryNode,
        daemon: Daemon,
        addresses: Addresses,
        kinds: Sequence[VolumeKind],
    ) -> None:
        self._inventory = inventory
        self._node = node
        self._daemon = daemon
        self._addresses = addresses
        self._kinds = kinds
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of disks that are attached and not mounted."""
        with self._lock:
            for kind in self._kinds:
                kind.close()

    # --- reading -------------------------------------------------------------------------------

    def snapshot(self, *, volumes: bool) -> CloudSnapshot:
        """This node and, with `volumes`, every volume of the inventory and the peers. Nothing is made or written.

        A volume that can't serve (an image of another size, a missing device) says so in its status. One damaged
        state file makes all volumes Unknown: it may hide that etcd ran from its volume.
        """
        with self._lock:
            known = _or_unknown(lambda: self._look(self._inventory.volumes if volumes else ()))
            own = _or_unknown(lambda: self._own_addresses(known))
            peers = _or_unknown(lambda: self._peers(known, own)) if volumes else ()
        return CloudSnapshot(
            instance=own if isinstance(own, Unknown) else self._instance(own),
            volumes=known if isinstance(known, Unknown) else tuple(map(_describe, known)),
            peers=peers,
        )

    def cluster_id(self) -> str:
        """The cluster of the inventory."""
        return self._inventory.cluster

    # --- acting --------------------------------------------------------------------------------

    def attach(self, volume_id: str) -> None:
        """Attach a volume; nothing to do when it is attached here already."""
        volume = self._find(volume_id)
        kind = next(kind for kind in self._kinds if volume in kind.volumes())
        with self._lock:
            remembered = state.load(volume.state)
            known = () if self._node.internal else self._look(self._inventory.volumes)
            attached = replace(remembered, holder=self._holder(self._own_addresses(known)))
            kind.attach(volume, remembered, lambda: self._save(volume, attached, remembered))

    def tag(self, volume_id: str, key: str, value: str) -> None:
        """Remember a tag of a volume that this node holds."""
        with self._lock:
            (known,) = self._look((self._find(volume_id),))
            if known.seen.holder != self._node.name:
                raise ProviderError(f"tag {volume_id} {key}={value}: only its holder may tag it, attach it first")
            self._save(known.volume, replace(known.state, tags={**known.state.tags, key: value}), known.state)

    def announce(self) -> None:
        """Write this holder's changed addresses for the other nodes to read.

        A cloud knows its machines' addresses by itself. Here the holder must write them, whenever they change.
        """
        with self._lock:
            ours = [one for one in self._look(self._inventory.volumes) if one.seen.holder == self._node.name]
            myself = self._holder(self._own_addresses(ours))
            for one in ours:
                self._save(one.volume, replace(one.state, holder=myself), one.state)

    # --- inside, under the lock ----------------------------------------------------------------

    def _look(self, volumes: Iterable[InventoryVolume]) -> tuple[_Known, ...]:
        remembered = {volume.id: state.load(volume.state) for volume in volumes}
        seen = {name: one for kind in self._kinds for name, one in kind.look(remembered).items()}
        return tuple(_Known(v, remembered[v.id], seen[v.id]) for v in self._inventory.volumes if v.id in remembered)

    def _save(self, volume: InventoryVolume, new: State, before: State) -> None:
        if new != before:
            with explain(f"write {volume.state}", ADVICE):
                state.save(volume.state, new)

    def _own_addresses(self, known: Sequence[_Known] | Unknown) -> tuple[str, ...]:
        """The inventory's, else the machine's. Raises ProviderError when none can be seen.

        Unseen is not absent: a cable pulled for a second must not remove this node's records and kubelet's --node-ip.
        """
        if self._node.internal:
            return self._node.internal
        if isinstance(known, Unknown):
            # The announced address is unknown then, and another one might be chosen for no reason.
            raise ProviderError(known.reason)
        found = self._addresses(self._announced(known))
        if not found:
            raise ProviderError(
                f"{self._node.name}: no address can be seen (expected one on the interface of the default route, got "
                f"none); bring the network up, or give internalAddress in {self._inventory.path}"
            )
        return found

    def _announced(self, known: Sequence[_Known]) -> tuple[str, ...]:
        """The addresses that this node announced last: first those beside volumes that it holds now."""
        mine = [one for one in known if one.state.holder and one.state.holder.node == self._node.name]
        mine.sort(key=lambda one: one.seen.holder != self._node.name)
        return tuple(
            dict.fromkeys(address for one in mine if one.state.holder for address in one.state.holder.internal)
        )

    def _holder(self, internal: tuple[str, ...]) -> Holder:
        daemon = self._daemon
        return Holder(daemon.node, internal, self._node.external, daemon.root, daemon.namespace)

    def _instance(self, internal: tuple[str, ...]) -> Instance:
        return Instance(
            id=self._node.name,
            name=self._node.name,
            zone=self._inventory.zone,
            cluster_id=self._inventory.cluster,
            internal=internal,
            external=self._node.external,
            instance_group=self._node.instance_group,
        )

    def _peers(self, known: Sequence[_Known] | Unknown, own: tuple[str, ...] | Unknown) -> tuple[Peer, ...]:
        """This node, the recorded holders of held volumes, and the nodes with `members`.

        All of them count as running: the local cloud can't tell a dead node from a silent one.
        """
        if isinstance(known, Unknown):
            raise ProviderError(known.reason)
        peers = {node.name: self._peer(node, own) for node in self._inventory.nodes if node.members}
        for one in known:
            name, holder = one.seen.holder, one.state.holder
            if name == self._node.name and holder is None:
                peers[name] = self._peer(self._node, own)
            elif name and holder:
                peer = peers.get(name, Peer(name, ()))
                peers[name] = replace(peer, internal=holder.internal, external=holder.external)
        return tuple(peers.values())

    def _peer(self, node: InventoryNode, own: tuple[str, ...] | Unknown) -> Peer:
        internal = own if node.name == self._node.name else node.internal
        if isinstance(internal, Unknown):
            raise ProviderError(internal.reason)
        return Peer(node.name, internal, node.external, members=node.members)

    def _find(self, volume_id: str) -> InventoryVolume:
        found = next((volume for volume in self._inventory.volumes if volume.id == volume_id), None)
        if found is None:
            raise ProviderError(f"{self._inventory.path} has no volume {volume_id!r}")
        return found


def _or_unknown(read: Callable[[], T]) -> T | Unknown:
    """The result of `read`, or Unknown: one part that can't be read doesn't hide the others."""
    try:
        return read()
    except ProviderError as error:
        return Unknown(str(error))


def _describe(known: _Known) -> CloudVolume:
    volume, seen = known.volume, known.seen
    attached = Attachment(seen.holder, volume.device, AttachState.ATTACHED) if seen.holder else None
    return CloudVolume(
        id=volume.id,
        zone=volume.zone,
        size=volume.size,
        tags={**volume.tags, **known.state.tags},
        status=f"error: {seen.trouble}" if seen.trouble else "in-use" if attached else "available",
        attachments=(attached,) if attached else (),
        identity=seen.identity,
        pristine=seen.pristine,
        obstacle=seen.obstacle,
    )


def daemon_here(node: InventoryNode, root: str) -> Daemon:
    """This process as a daemon of `node`, with the real path of its root."""
    return Daemon(node.name, os.path.realpath(root), str(Path("/proc/self/ns/mnt").readlink()))
