"""A stand-in for the part of kubelet that runs static pods, for tests: etcd's manifests, no more.

Every file of the manifest folder that doesn't start with a dot is a pod. Its command runs from the machine's own
/usr, in a mount namespace and a root file system of its own: it sees what the manifest mounts and nothing else of
the node, its environment is the manifest's, its network is the caller's (`hostNetwork`), and it resolves names by a
copy of the node's /etc/resolv.conf. As with kubelet a hostPath
must be there and be what its `type` says; a pod whose manifest changes is restarted, one whose manifest vanishes is
ended, one that exits is started again. Images, probes and resources are not its business.

    with StaticPods(root, work=tmp_path) as pods:
        pods.sync()                             # one look; call it again, or run() in a thread
        pods.log("etcd")                        # what the pod of etcd.manifest has printed

or, as a process of its own: `python -m tests.lab.static_pods --root DIR --work DIR`. Needs root and util-linux.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import yaml

MANIFEST_DIR = "/etc/kubernetes/manifests"
RESTART_AFTER = 1.0
"""Seconds between two starts of one pod."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TESTS = {"Directory": "-d", "File": "-f", "": "-e"}


@dataclass(frozen=True)
class Mount:
    """A hostPath (without the root) and where the container has it. `type` is the hostPath's own."""

    source: str
    target: str
    type: str
    read_only: bool


@dataclass(frozen=True)
class Pod:
    """What a manifest says, as far as it is obeyed here. `ports` maps names to host ports."""

    name: str
    image: str
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    mounts: tuple[Mount, ...]
    ports: tuple[tuple[str, int], ...]

    def port(self, name: str) -> int:
        """A host port by its name."""
        return dict(self.ports)[name]


def read_pod(text: str) -> Pod:
    """The pod of a manifest; raises ValueError for one that can't be run here as it says."""
    pod: Any = yaml.safe_load(text)
    spec = pod["spec"]
    (container,) = spec["containers"]
    if not spec.get("hostNetwork"):
        raise ValueError(f"{pod['metadata']['name']}: only pods with hostNetwork run here")
    if any(port["containerPort"] != port.get("hostPort") for port in container["ports"]):
        raise ValueError(f"{pod['metadata']['name']}: on the host's network both ports must be the same")
    paths = {volume["name"]: volume["hostPath"] for volume in spec["volumes"]}
    return Pod(
        pod["metadata"]["name"],
        container["image"],
        (*container["command"], *container.get("args", ())),
        tuple((item["name"], item["value"]) for item in container["env"]),
        tuple(
            Mount(
                paths[mount["name"]]["path"],
                mount["mountPath"],
                paths[mount["name"]].get("type", ""),
                mount.get("readOnly", False),
            )
            for mount in container["volumeMounts"]
        ),
        tuple((port["name"], port["hostPort"]) for port in container["ports"]),
    )


def script(pod: Pod, root: Path, rootfs: Path) -> str:
    """The shell script that makes the container's file system at `rootfs` and becomes its command."""
    at = shlex.quote
    here = at(str(rootfs))
    lines = [f"mount -t tmpfs -o mode=0755 tmpfs {here}", f"cd {here}", "mkdir etc usr dev proc"]
    for place in (Path("/bin"), Path("/sbin"), Path("/lib"), Path("/lib32"), Path("/lib64"), Path("/libx32")):
        if place.is_symlink():
            lines.append(f"ln -s {at(str(place.readlink()))} {place.name}")
        elif place.is_dir():
            lines.append(f"mkdir {place.name}; mount --bind {place} {place.name}")
    lines += ["mount --bind /usr usr", "mount --rbind /dev dev", "mount --rbind /proc proc"]
    lines += ["mount -o remount,bind,ro usr", "echo hosts: files dns >etc/nsswitch.conf"]
    resolver = at(f"{str(root).rstrip('/')}/etc/resolv.conf")
    lines.append(f"test ! -f {resolver} || cp {resolver} etc/resolv.conf")
    for mount in pod.mounts:
        source, target = at(f"{str(root).rstrip('/')}{mount.source}"), at(mount.target.lstrip("/"))
        test = _TESTS[mount.type]
        lines.append(f"test {test} {source} || {{ echo {source}: no hostPath of type {mount.type} >&2; exit 1; }}")
        parent = at(str(Path(mount.target.lstrip("/")).parent))
        lines.append(f"mkdir -p {parent}; touch {target}" if mount.type == "File" else f"mkdir -p {target}")
        lines.append(f"mount --bind {source} {target}")
        if mount.read_only:
            lines.append(f"mount -o remount,bind,ro {target}")
    environment = [f"{name}={value}" for name, value in (("PATH", _PATH), *pod.env)]
    # pdeathsig: a container never outlives the one who started it, not even when that one is killed.
    end = ["env", "-i", *environment, "setpriv", "--pdeathsig", "KILL", "chroot", ".", *pod.command]
    return "\n".join([*lines, f"exec {shlex.join(end)}"])


@dataclass
class Running:
    """A pod that was started: the manifest it was started from, its process, and when (monotonic seconds)."""

    pod: Pod
    text: str
    process: subprocess.Popen[bytes]
    since: float


class StaticPods:
    """Runs the pods of one node. `work` holds their logs and mount points.

    Pods end with the thread that started them: call `sync` from one that stays.
    """

    def __init__(self, root: Path, *, work: Path, manifest_dir: str = MANIFEST_DIR) -> None:
        self._root = root
        self._work = work
        self._folder = root / manifest_dir.lstrip("/")
        self.running: dict[str, Running] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sync(self) -> None:
        """Look at the manifest folder once, and make what runs agree with it."""
        wanted = self._manifests()
        for name, one in list(self.running.items()):
            if wanted.get(name) != one.text:
                self._end(name)
        for name, text in wanted.items():
            there = self.running.get(name)
            if there is None:
                self._start(name, text)
            elif there.process.poll() is not None and time.monotonic() - there.since >= RESTART_AFTER:
                print(f"{there.pod.name} exited with {there.process.returncode}", flush=True)
                self._start(name, text)

    def run(self, stop: threading.Event, every: float = 0.05) -> None:
        """Look every so many seconds until `stop` is set."""
        while not stop.wait(every):
            self.sync()

    def log(self, name: str) -> str:
        """Everything that the pod of `<name>.manifest` has printed."""
        return self._log(name).read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End every pod, and wait for it."""
        for name in list(self.running):
            self._end(name)

    def _manifests(self) -> dict[str, str]:
        """The manifests by file name without ending. A link that dangles is no pod (kubelet skips it as well)."""
        found: dict[str, str] = {}
        for path in sorted(self._folder.glob("[!.]*"), key=lambda path: path.stem):
            if path.exists():
                found[path.stem] = path.read_text(encoding="utf-8")
        return found

    def _log(self, name: str) -> Path:
        return self._work / f"{name}.log"

    def _start(self, name: str, text: str) -> None:
        pod = read_pod(text)
        rootfs = self._work / f"{name}.rootfs"
        rootfs.mkdir(parents=True, exist_ok=True)
        inside = script(pod, self._root, rootfs)
        log: IO[bytes]
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-euc", inside],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.running[name] = Running(pod, text, process, time.monotonic())
        print(f"{pod.name} started from {name}.manifest, pid {process.pid}", flush=True)

    def _end(self, name: str) -> None:
        one = self.running.pop(name)
        one.process.terminate()
        try:
            one.process.wait(10)
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait(10)
        print(f"{one.pod.name} ended", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a node's static pods until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="static-pods", description="Runs static pods the way kubelet would.")
    parser.add_argument("--root", type=Path, default=Path("/"), help="the node's root directory (/)")
    parser.add_argument("--work", type=Path, required=True, help="directory for logs and mount points")
    parser.add_argument(
        "--manifest-dir", default=MANIFEST_DIR, help=f"manifest folder below the root ({MANIFEST_DIR})"
    )
    given = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with StaticPods(given.root, work=given.work, manifest_dir=given.manifest_dir) as pods:
        pods.run(stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
