"""A node on trial: protokube as people run it, below a scratch root, in mount and network namespaces of its own.

    with TrialNode(tmp_path / "a", inventory) as node:
        node.once()                              # protokube --once; a CompletedProcess
        node.start_daemon()
        node.start_pods()                        # etcd from the manifests, as kubelet would run it
        node.power_cut()                         # every process and mount of the node is gone at once

Nodes with one inventory share its disks. Needs root.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.lab.netns import Namespace

CHECKOUT = Path(__file__).parents[2]
CLUSTER = "dev.example.com"
MIB = 1 << 20
ETCD_IMAGE = "registry.k8s.io/etcd:3.4.23-0"
"""Names the version that Debian ships, which is what static pods run here."""


def tags(cluster: str, spec: str) -> dict[str, str]:
    """The tags of a volume that carries a member."""
    return {"KubernetesCluster": CLUSTER, "k8s.io/role/master": "1", f"k8s.io/etcd/{cluster}": spec}


def volume(volume_id: str, cluster: str, spec: str, size: str = "64MiB") -> dict[str, Any]:
    """An inventory's entry for a file volume."""
    return {"id": volume_id, "file": f"volumes/{volume_id}.img", "size": size, "tags": tags(cluster, spec)}


def write_inventory(folder: Path, *volumes: Mapping[str, Any], nodes: Mapping[str, str] | None = None) -> Path:
    """An inventory with these volumes; `nodes` maps names to internal addresses (default: node-a, 10.1.2.3)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "inventory.yaml"
    names = nodes or {"node-a": "10.1.2.3"}
    listed = [{"name": name, "internalAddress": address} for name, address in names.items()]
    path.write_text(
        json.dumps({"cluster": CLUSTER, "zone": "local", "nodes": listed, "volumes": list(volumes)}, indent=1)
    )
    return path


FOR_ETCD = "256MiB"
"""etcd sets aside two files of 64 MB for its log, so one that really runs needs more than volume()'s default."""


def both(member: str = "a", members: str = "a", size: str = "64MiB") -> list[dict[str, Any]]:
    """A main and an events volume."""
    return [volume(f"{cluster}-{member}", cluster, f"{member}/{members}", size) for cluster in ("main", "events")]


def until(what: str, holds: Callable[[], Any], limit: float = 120.0) -> Any:
    """The first true answer; the limit is only there to end a test that has failed."""
    deadline = time.monotonic() + limit
    while not (answer := holds()):
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)
    return answer


def first_woken_by(log: str) -> str:
    """What woke the daemon first in this part of its log. Later the clock may: a tool at work is looked at by it."""
    return log.partition("woken by ")[2].partition("\n")[0]


def _processes_in(space: str) -> list[int]:
    """The processes in a mount namespace, by their pid; without those that have ended and are only waited for."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(folder / "ns/mnt") == space:
                found.append(int(folder.name))
    return found


class TrialNode:
    """One node. `options` are given to every protokube that runs on it."""

    def __init__(
        self,
        base: Path,
        inventory: Path,
        name: str = "node-a",
        *,
        network: Namespace | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        self.base = base
        self.name = name
        self.root = base / "root"
        self._inventory = inventory
        self._network = network
        self._options = options
        self._keeper: subprocess.Popen[bytes] | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.root.mkdir(parents=True, exist_ok=True)
        self.power_on()
        return self

    def __exit__(self, *_: object) -> None:
        self.power_cut()
        # The bare mount points are immutable, which pytest's own cleaning can't undo.
        subprocess.run(["chattr", "-R", "-f", "-i", str(self.root)], check=False, capture_output=True)

    def power_on(self) -> None:
        """Give the node its namespaces; nothing runs in them yet."""
        command = ["unshare", "--mount", "--propagation", "private", *([] if self._network else ["--net"])]
        command += ["sh", "-c", "ip link set lo up; echo; exec sleep infinity"]
        if self._network is not None:
            command = self._network.command(*command)
        self._keeper = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._keeper.stdout is not None
        self._keeper.stdout.readline()
        self._keeper.stdout.close()

    def power_cut(self) -> None:
        """End everything on the node at once: its processes by SIGKILL, its mounts with their namespace."""
        if self._keeper is None:
            return
        space = os.readlink(f"/proc/{self._keeper.pid}/ns/mnt")
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()
        while inside := _processes_in(space):  # again, for what was just being started
            for pid in inside:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if inside == [self._keeper.pid]:
                break
        self._keeper.wait()
        self._keeper = None

    def command(self, *argv: str) -> list[str]:
        """The argument vector that runs `argv` on the node."""
        assert self._keeper is not None, f"{self.name} is switched off"
        return ["nsenter", "-t", str(self._keeper.pid), "-m", "-n", *argv]

    def run(self, *argv: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a program on the node."""
        return subprocess.run(
            self.command(*argv), capture_output=True, text=True, timeout=timeout, cwd=CHECKOUT, check=False
        )

    def arguments(self, *options: str) -> list[str]:
        """protokube's command line on this node."""
        own = ["--cloud", "local", "--inventory", str(self._inventory), "--node", self.name, "--root", str(self.root)]
        if "--kubelet-unit" not in (*self._options, *options):
            own += ["--kubelet-unit", "none"]
        return [sys.executable, "-m", "protokube", *own, "--master", *self._options, *options]

    def protokube(self, *words: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """A command of protokube's, such as `etcd status`."""
        python, m, protokube, *own = self.arguments()
        return self.run(python, m, protokube, *words, *own, timeout=timeout)

    def once(self, *options: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """`protokube --once`."""
        return self.run(*self.arguments("--once", *options), timeout=timeout)

    def report(self, *options: str) -> dict[str, Any]:
        """The JSON report of `protokube --once` or, with that option, `--dry-run`."""
        mode = () if "--dry-run" in options else ("--once",)
        done = self.run(*self.arguments(*mode, "-o", "json", *options))
        assert done.stdout, done.stderr
        answer = json.loads(done.stdout)
        answer["exit"] = done.returncode
        return answer  # type: ignore[no-any-return]

    def spawn(self, log: str, *argv: str) -> subprocess.Popen[bytes]:
        """Start a program on the node that stays."""
        with (self.base / log).open("ab") as out:
            process = subprocess.Popen(
                self.command(*argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=CHECKOUT
            )
        self._processes.append(process)
        return process

    def start_daemon(self, *options: str) -> subprocess.Popen[bytes]:
        """The daemon, as its unit runs it; it logs to daemon.log."""
        return self.spawn("daemon.log", *self.arguments(*options))

    def start_pods(self) -> subprocess.Popen[bytes]:
        """Run the static pods of the manifest folder as virtual-kubelet's children; it logs to pods.log."""
        agent = [sys.executable, "-m", "protokube.agent", "--standalone", "--provider", "process"]
        return self.spawn("pods.log", *agent, "--nodename", self.name, "--root", str(self.root))

    def pod_logs(self) -> str:
        """What the static pods have printed since they were last started."""
        logs = sorted(self.root.glob("run/protokube/agent/containers/*.log"))
        return "".join(f"{log.name}:\n{log.read_text(errors='replace')}\n" for log in logs)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL, for this process alone; what it has started goes on."""
        process.kill()
        self._processes.remove(process)
        process.wait()

    def end(self, process: subprocess.Popen[bytes]) -> int:
        """SIGTERM, and the exit code."""
        process.terminate()
        self._processes.remove(process)
        return process.wait(120)

    def processes(self) -> str:
        """The arguments and the environment of every process on the node, and of the pods' containers."""
        assert self._keeper is not None, f"{self.name} is switched off"
        network = os.readlink(f"/proc/{self._keeper.pid}/ns/net")
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.readlink(folder / "ns/net") == network:
                    found += [
                        (folder / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ")
                    ]
        return "\n".join(found)

    def log(self, name: str = "daemon.log") -> str:
        """What the daemon (or another program that stays) has printed."""
        path = self.base / name
        return path.read_text(errors="replace") if path.exists() else ""

    def path(self, path: str) -> Path:
        """Where a path of the node is found from outside while it is switched on, mounts included."""
        assert self._keeper is not None, f"{self.name} is switched off"
        return Path(f"/proc/{self._keeper.pid}/root{self.root}{path}")

    def etcdctl(self, *argv: str, port: int = 4001) -> subprocess.CompletedProcess[str]:
        """Ask the node's own etcd, with the node's client certificate where it has one."""
        client = self.root / "var/lib/protokube/pki/etcd-client"
        options = [f"--endpoints=http://127.0.0.1:{port}"]
        if client.exists():
            files = {"cacert": "ca.crt", "cert": "tls.crt", "key": "tls.key"}
            options = [f"--{option}={client / file}" for option, file in files.items()]
            options.append(f"--endpoints=https://127.0.0.1:{port}")
        return self.run("env", "ETCDCTL_API=3", "etcdctl", *options, "--command-timeout=3s", *argv)

    def healthy(self, port: int = 4001) -> bool:
        """Whether the node's etcd serves reads with quorum."""
        return self.etcdctl("get", "health", port=port).returncode == 0
