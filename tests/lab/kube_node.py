"""A node with a real containerd and a real kubelet, that protokube makes one: see unit_node and legacy_cgroups.

with Network() as network, KubeNode(tmp_path, "node-a", network.node("10.77.0.11/24"), {"cloud": "local"}) as node:
    node.run("systemctl", "start", "protokube")
    node.ctr("containers", "ls")

The network namespace is the node's; pods have addresses in `pods`. The machine's disk holds what containerd keeps.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.lab import inside, legacy_cgroups
from tests.lab.kubernetes import CONTAINERD, KUBERNETES, copy_containerd
from tests.lab.netns import Namespace
from tests.lab.unit_node import LOOPS, UnitNode

_BUILT = inside.KUBERNETES
_ROOT = f"{_BUILT}/root/usr"
_LIB = f"{_ROOT}/lib/x86_64-linux-gnu"
_PATH = f"/usr/local/sbin:/usr/local/bin:{_ROOT}/bin:{_ROOT}/sbin:/usr/sbin:/usr/bin"
_ENTER = legacy_cgroups.ENTER
_TABLES = tuple(f"{ip}tables{verb}" for ip in ("ip", "ip6") for verb in ("", "-save", "-restore"))

_CONTAINERD_UNIT = f"""\
[Unit]
Requires=legacy-cgroups.service
After=legacy-cgroups.service
[Service]
Type=notify
NotifyAccess=all
Environment=PATH={_PATH} LD_LIBRARY_PATH={_LIB}
ExecStart={_ENTER} {_ROOT}/bin/containerd
KillMode=process
Restart=always
RestartSec=100ms
TimeoutStartSec=infinity
"""

_KUBELET_UNIT = f"""\
[Unit]
Requires=containerd.service
After=containerd.service
[Service]
Environment=PATH={_PATH}
"""

# protokube's unit may not enter other namespaces, and asks for the version and the flags alone.
_KUBELET = f"""#!/bin/sh
case "$*" in *--config=*) exec {_ENTER} {_BUILT}/bin/kubelet "$@" ;; esac
exec {_BUILT}/bin/kubelet "$@"
"""


def _files(pods: str) -> dict[str, str]:
    network = {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isDefaultGateway": True,
                "hairpinMode": True,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": pods}]]},
            },
        ],
    }
    tables = f"XTABLES_LIBDIR={_LIB}/xtables LD_LIBRARY_PATH={_LIB} exec {_ROOT}/sbin/xtables-legacy-multi"
    return {
        "/usr/bin/kubelet": _KUBELET,
        **legacy_cgroups.FILES,
        "/etc/systemd/system/containerd.service": _CONTAINERD_UNIT,
        "/etc/systemd/system/kubelet.service.d/machine.conf": _KUBELET_UNIT,
        "/etc/containerd/config.toml": CONTAINERD.replace("/usr/sbin/runc", f"{_ROOT}/sbin/runc").replace(
            "/usr/lib/cni", f"{_ROOT}/lib/cni"
        ),
        "/etc/cni/net.d/10-pods.conflist": json.dumps(network),
        **{f"/usr/local/sbin/{name}": f'#!/bin/sh\n{tables} {name} "$@"\n' for name in _TABLES},
    }


KUBELET: Mapping[str, Any] = {
    "containerRuntime": "remote",
    "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
    "cgroupDriver": "cgroupfs",
    "failSwapOn": False,
    "evictionHard": {"memory.available": "1Mi"},
    "featureGates": {"LocalStorageCapacityIsolation": False},
}
"""The settings of a kubelet that runs on a machine of the tests: an overlay for a root, and cgroup v1."""


class KubeNode(UnitNode):
    """The node. `config` is laid over what every such node is configured with, one key at a time."""

    limit = 600.0  # an API server alone takes 10 s of a processor that many tests share

    def __init__(
        self,
        base: Path,
        name: str,
        network: Namespace,
        config: Mapping[str, Any],
        *,
        pods: str = "10.244.1.0/24",
        files: Mapping[str, str] | None = None,
        binds: Sequence[str | Path] = (),
    ) -> None:
        assert not (missing := legacy_cgroups.missing()), f"this machine has no cgroup v1 hierarchies {missing}"
        for folder in ("containerd", "kubelet"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        copy_containerd(base / "containerd")
        kept = [f"{base / folder}:/var/lib/{folder}" for folder in ("containerd", "kubelet")]
        super().__init__(
            base,
            name,
            {"kubelet": KUBELET, **config},
            files=_files(pods) | dict(files or {}),
            binds=[*LOOPS, *kept, f"{KUBERNETES}:{_BUILT}", *binds],
            netns=network.name,
            seccomp=False,
            before=legacy_cgroups.BEFORE,
        )

    def start(self) -> Self:
        """Boot, with containerd, as a machine does whose image brings it."""
        super().start()
        done = self.run("systemctl", "start", "containerd", check=False)
        if done.returncode:
            said = self.journal("legacy-cgroups") + self.journal("containerd")
            self.kill()
            raise AssertionError(f"{self.name}: containerd doesn't start: {done.stderr}{said}")
        return self

    def ctr(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """containerd's own client, on the pods of kubelet."""
        return self.run(_ENTER, f"{_ROOT}/bin/ctr", "--namespace", "k8s.io", *argv, check=check)

    def running(self) -> set[str]:
        """The programs of the containers that run, by their images without registry and version."""
        return set(self.containers().values())

    def containers(self) -> dict[str, str]:
        """The containers that run: their ids, and their programs."""
        listed = self.ctr("containers", "ls").stdout.splitlines()[1:]
        images = {line.split()[0]: line.split()[1] for line in listed}
        tasks = [line.split() for line in self.ctr("tasks", "ls").stdout.splitlines()[1:]]
        up = [task[0] for task in tasks if task[2] == "RUNNING" and task[0] in images]
        return {one: images[one].rpartition("/")[2].partition(":")[0] for one in up}

    def _ended(self) -> None:
        super()._ended()
        legacy_cgroups.remove(self._cgroup)
