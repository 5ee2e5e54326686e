"""Machines that protokube makes a Kubernetes cluster: blank disks, one store, one inventory, and kubectl.

    with KubeCluster(tmp_path, members="a") as cluster:
        a = cluster.control_plane("a")
        a.run("systemctl", "start", UNIT)
        cluster.until("it is ready", lambda: cluster.kubectl(a, "get", "nodes").…)

Node `x` is called node-x, and has an address and pods' addresses of its own; pods of two nodes reach one another by
routes. `d` takes over the volumes of a machine that is gone; `w` and `v` are workers. A machine that is
switched off and on again has the disk that it had.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Self

from protokube.kubeapi.client import KubeApi
from protokube.kubeapi.http import Credentials, KubeHttp
from tests.lab import inside
from tests.lab.kube_node import KubeNode
from tests.lab.netns import Namespace, Network
from tests.lab.trial import FOR_ETCD, both, write_inventory
from tests.lab.unit_node import UNIT

ADDRESSES = {letter: f"10.77.0.{11 + at}" for at, letter in enumerate("abcdwv")}
PODS = {letter: f"10.244.{1 + at}.0/24" for at, letter in enumerate("abcdwv")}
SHARED = "/var/lib/shared"
API_PORT = 6443
LIMIT = 600.0
"""Seconds that only a hang exceeds: four nodes on a machine at load 25 take minutes."""

KUBECTL = f"{inside.KUBERNETES}/root/usr/bin/kubectl"
KUBECONFIG = "/run/kubectl"
_CONNTRACK = {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
"""Zero leaves the machine's own limits, which belong to no node of ours."""
_PLANE = {"kubeProxy": {"conntrack": _CONNTRACK}, "networking": {"coreDNS": False}}
"""What all nodes have, workers as well. There is no image of CoreDNS here."""


class KubeCluster:
    """The network, the shared directory and the nodes. `config` is laid over every node's."""

    def __init__(self, base: Path, members: str, config: Mapping[str, Any] | None = None) -> None:
        self._base, self._config = base, dict(config or {})
        self._stack = ExitStack()
        self._spaces: dict[str, Namespace] = {}
        self.shared = base / "shared"
        volumes = [one for member in members for one in both(member, ",".join(members), FOR_ETCD)]
        write_inventory(self.shared, *volumes, nodes={f"node-{one}": where for one, where in ADDRESSES.items()})
        (self.shared / "volumes").mkdir()
        (self.shared / "store").mkdir(0o700)

    def __enter__(self) -> Self:
        self._network = self._stack.enter_context(Network())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def control_plane(self, letter: str, **config: Any) -> KubeNode:
        """A machine that runs the control plane, switched on; nothing is started yet."""
        own = {"controlPlane": True, "store": f"file://{SHARED}/store", "trustClock": True}
        return self._node(letter, {**own, **config})

    def worker(self, letter: str, token: Mapping[str, str], **config: Any) -> KubeNode:
        """A machine with a token that joins; `token` is what `protokube token create -o json` has printed."""
        files = {"/etc/protokube/ca.crt": token["ca"], "/etc/protokube/token": token["token"]}
        own = {"master": False, "api": f"https://{ADDRESSES['a']}:{API_PORT}"}
        return self._node(letter, {**own, **config}, files)

    def _node(self, letter: str, config: Mapping[str, Any], files: Mapping[str, str] | None = None) -> KubeNode:
        space = self._network.node(f"{ADDRESSES[letter]}/24", gateway="10.77.0.1")
        self._spaces[letter] = space
        for other, pods in PODS.items():
            if other != letter:
                space.ip("route", "add", pods, "via", ADDRESSES[other])
        whole = {"cloud": "local", "inventory": f"{SHARED}/inventory.yaml", **_PLANE, **self._config, **config}
        binds = [f"{self.shared}:{SHARED}"]
        node = KubeNode(
            self._base / letter, f"node-{letter}", space, whole, pods=PODS[letter], files=files, binds=binds
        )
        return self._stack.enter_context(node.persist())

    def inside(self, node: KubeNode) -> AbstractContextManager[None]:
        """Let this thread's new sockets be the node's."""
        return self._spaces[node.name.removeprefix("node-")].inside()

    def api(self, node: KubeNode) -> KubeApi:
        """A client of a control-plane node's API server, as protokube's own user; use it `inside` the node."""
        files = node.path("/var/lib/protokube/pki/protokube")
        return KubeApi(KubeHttp(f"https://127.0.0.1:{API_PORT}", Credentials(files / "ca.crt", certificate=files)))

    def kubectl(self, node: KubeNode, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """kubectl on a control-plane node, as protokube's own user."""
        from protokube.core.kubelet.identity import kubeconfig

        path = node.path(KUBECONFIG)
        if not path.exists():
            path.write_text(kubeconfig(f"https://127.0.0.1:{API_PORT}", "/var/lib/protokube/pki/protokube"))
        command = [KUBECTL, f"--kubeconfig={KUBECONFIG}", "--request-timeout=10s", *argv]
        return node.run(*command, stdin=stdin, check=False)

    def ready(self, node: KubeNode) -> set[str]:
        """The names of the nodes that are ready, by the API server of this one."""
        done = self.kubectl(node, "get", "nodes", "-o", "json")
        if done.returncode:
            return set()
        return {one["metadata"]["name"] for one in json.loads(done.stdout)["items"] if is_ready(one)}

    def until(self, what: str, node: KubeNode, holds: Callable[[], Any], limit: float = LIMIT) -> Any:
        """The first true answer; when there is none, all that this node knows tells why."""
        end = time.monotonic() + limit
        while not (answer := holds()):
            if time.monotonic() > end:
                raise AssertionError(f"still not: {what}\n{account(self, node)}")
            time.sleep(0.5)
        return answer


def is_ready(one: Mapping[str, Any]) -> bool:
    """Whether a node or a pod is ready, by its conditions."""
    conditions = (one.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def account(cluster: KubeCluster, node: KubeNode) -> str:
    """What a node can tell about itself, for a failed test."""
    parts = [node.journal(UNIT)[-4000:], node.journal("kubelet")[-6000:]]
    parts.append(node.ctr("containers", "ls", check=False).stdout)
    parts.append(cluster.kubectl(node, "get", "nodes,pods,csr", "-A", "-o", "wide").stdout)
    logs = sorted(node.path("/var/log/pods").glob("*/*/*.log"))
    parts += [f"{log}:\n{log.read_text(errors='replace')[-1500:]}" for log in logs]
    return "\n".join(parts)
