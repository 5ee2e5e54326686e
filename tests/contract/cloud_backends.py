"""The clouds that the contract holds for, by name. A new one joins by an entry in BACKENDS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from protokube.cloudprovider.local import local_cloud
from protokube.cloudprovider.static.provider import StaticCloud, load_inventory, own_node
from tests.contract.aws_backend import AwsBackend

_INVENTORY = """\
cluster: dev.example.com
nodes:
  - {name: node-a, internalAddress: 10.0.0.1}
  - {name: node-b}
volumes:
  - {id: main-a, file: volumes/main-a.img, size: 1GiB, tags: &tags {
      KubernetesCluster: dev.example.com, k8s.io/role/master: "1", k8s.io/etcd/main: "a/a,b"}}
  - {id: main-b, file: volumes/main-b.img, size: 1GiB, tags: *tags}
"""


class LocalBackend:
    """The local cloud: two daemons of one machine that share an inventory."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "inventory.yaml"
        self._path.write_text(_INVENTORY)
        self._nodes: dict[str, StaticCloud] = {}

    def node(self, name: str) -> StaticCloud:
        """The cloud as a node sees it."""
        if name not in self._nodes:
            inventory = load_inventory(str(self._path))
            self._nodes[name] = local_cloud(inventory, own_node(inventory, name), lambda _: ("10.0.0.2",))
        return self._nodes[name]

    def volume_id(self, name: str) -> str:
        """Ids are chosen in the inventory."""
        return name

    def close(self) -> None:
        """Let every loop device go."""
        for node in self._nodes.values():
            node.close()


BACKENDS: Mapping[str, Callable[[Path], Any]] = {"local": LocalBackend, "aws": AwsBackend}
