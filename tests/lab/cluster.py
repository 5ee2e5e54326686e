"""Several nodes on one network that share an inventory: what a cluster's tests begin with.

    with Cluster(tmp_path, three_members()) as cluster:
        a, b, c = (cluster.start(name) for name in "abc")   # daemon and static pods; `d` is listed as well
        until("it forms", lambda: cluster.healthy(a, b, c))
        acknowledged(a, "key", "value")

Node `x` is called node-x in the inventory and has an address and a network namespace of its own. Needs root.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Self

from tests.lab.netns import Namespace, Network
from tests.lab.trial import ETCD_IMAGE, FOR_ETCD, TrialNode, both, until, write_inventory

ADDRESSES = {"a": "10.77.0.11", "b": "10.77.0.12", "c": "10.77.0.13", "d": "10.77.0.14"}
PORTS = {"etcd": 4001, "etcd-events": 4002}
LIMIT = 120.0
"""Seconds after which a test gives up, on however busy a machine."""


def three_members() -> list[dict[str, Any]]:
    """Main and events volumes of members a, b and c."""
    return [one for member in "abc" for one in both(member, "a,b,c", FOR_ETCD)]


class Cluster:
    """The network, the inventory and the nodes. `options` are given to every protokube."""

    def __init__(self, base: Path, volumes: Iterable[Mapping[str, Any]], *, options: tuple[str, ...] = ()) -> None:
        self._base = base
        self._options = ("--dns", "hosts", "--etcd-image", ETCD_IMAGE, *options)
        self._stack = ExitStack()
        self._spaces: dict[str, Namespace] = {}
        self.inventory = self.lists(volumes)

    def __enter__(self) -> Self:
        self._network = self._stack.enter_context(Network())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def lists(self, volumes: Iterable[Mapping[str, Any]]) -> Path:
        """Write the inventory anew with these volumes; daemons read it when they start, and at SIGHUP."""
        nodes = {f"node-{letter}": address for letter, address in ADDRESSES.items()}
        return write_inventory(self._base, *volumes, nodes=nodes)

    def node(self, letter: str) -> TrialNode:
        """A machine that is switched on and runs nothing yet."""
        space = self._network.node(f"{ADDRESSES[letter]}/24")
        self._spaces[letter] = space
        one = TrialNode(self._base / letter, self.inventory, f"node-{letter}", network=space, options=self._options)
        return self._stack.enter_context(one)

    def inside(self, node: TrialNode) -> AbstractContextManager[None]:
        """Let this thread's new sockets be the node's."""
        return self._spaces[node.name.removeprefix("node-")].inside()

    def start(self, letter: str) -> TrialNode:
        """A machine on which the daemon and the static pods run."""
        node = self.node(letter)
        run(node)
        return node


def run(node: TrialNode) -> None:
    """Start the daemon and the static pods of a machine."""
    node.start_daemon()
    node.start_pods()


def healthy(*nodes: TrialNode, ports: Iterable[int] = PORTS.values()) -> bool:
    """Whether etcd on every node serves reads with quorum."""
    return all(node.healthy(port) for node in nodes for port in ports)


def acknowledged(node: TrialNode, key: str, value: str, port: int = 4001) -> None:
    """Write a key until etcd says that it is kept; an election in between takes seconds."""
    until(f"{node.name} takes {key}", lambda: node.etcdctl("put", key, value, port=port).returncode == 0, LIMIT)


def value(node: TrialNode, key: str, port: int = 4001) -> str | None:
    """What a quorum says a key has; None when there is no quorum or no such key."""
    done = node.etcdctl("get", key, "--print-value-only", port=port)
    return done.stdout.rstrip("\n") or None if done.returncode == 0 else None


def members(node: TrialNode, port: int = 4001) -> dict[str, int]:
    """The members' ids by name (or, before they first start, by peer URL), as a quorum tells."""
    listed = _json(node, "member", "list", port=port)
    return {one.get("name") or one["peerURLs"][0]: one["ID"] for one in listed["members"]}


def cluster_id(node: TrialNode, port: int = 4001) -> int:
    """The id of the etcd cluster that the node's member belongs to."""
    return int(_json(node, "endpoint", "status", port=port)[0]["Status"]["header"]["cluster_id"])


def holders(*nodes: TrialNode) -> dict[str, TrialNode]:
    """The node on which each member's main volume is mounted, by member."""
    return {
        member: node for node in nodes for member in "abc" if node.path(f"/mnt/master-main-{member}/k8s.io").is_dir()
    }


def etcd_pid(node: TrialNode, name: str = "etcd") -> int:
    """The process of a running member, by its manifest's name."""
    data = "/var/etcd/data" if name == "etcd" else "/var/etcd/data-events"
    space = Path(node.path("/")).parts[2]
    network = Path(f"/proc/{space}/ns/net").readlink()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text() != "etcd\n" or (folder / "ns/net").readlink() != network:
                continue
            if f"ETCD_DATA_DIR={data}" in (folder / "environ").read_text().split("\0"):
                return int(folder.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    raise AssertionError(f"{node.name}: no etcd runs for {name}")


def _json(node: TrialNode, *argv: str, port: int) -> Any:
    done = node.etcdctl(*argv, "-w", "json", port=port)
    assert done.returncode == 0, f"{node.name}: {done.stderr}"
    return json.loads(done.stdout)
