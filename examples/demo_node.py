"""The demo's node, inside the namespaces that `examples/demo` makes. Not to be run by hand.

python examples/demo_node.py SCRATCH KEEP       (KEEP: 1 or 0)
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

HERE = Path(__file__).resolve().parent

LIMIT = 60.0
"""Seconds after which any stage counts as failed. All of them together take about five."""

COLOURS = ("\33[1m", "\33[2m", "\33[32m", "\33[31m", "\33[0m")
BOLD, DIM, GREEN, RED, PLAIN = COLOURS if sys.stdout.isatty() else ("",) * 5


class DemoError(Exception):
    """A stage did not come to its end; the message says which, and names the cause."""


def title(text: str) -> None:
    print(f"\n{BOLD}{text}{PLAIN}", flush=True)


def done(text: str, seconds: float | None = None) -> None:
    took = "" if seconds is None else f"{DIM}  {seconds:.2f} s{PLAIN}"
    print(f"  {GREEN}✓{PLAIN} {text}{took}", flush=True)


def until(what: str, look: Callable[[], Any]) -> Any:
    """Look again and again until there is something. Raises DemoError when nothing comes within LIMIT."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        time.sleep(0.01)
    raise DemoError(f"{what}: not within {LIMIT:.0f} s")


class Pod(NamedTuple):
    """What the demo shows of a static pod."""

    name: str
    member: str
    port: int


def read_pod(text: str) -> Pod:
    """The pod of one of etcd's manifests."""
    pod = yaml.safe_load(text)
    (container,) = pod["spec"]["containers"]
    ports = {one["name"]: one["hostPort"] for one in container["ports"]}
    env = {one["name"]: one["value"] for one in container["env"]}
    return Pod(pod["metadata"]["name"], env["ETCD_NAME"], ports["clientport"])


class Node:
    """The bare machine that is to become a node, in this process's own namespaces."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.root = scratch, scratch / "root"
        self.version = etcd_version()
        self.common = [
            *(sys.executable, "-m", "protokube"),
            *("--root", str(self.root), "--config", str(HERE / "config.yaml")),
            *("--inventory", str(scratch / "inventory.yaml")),
            *("--kubelet-unit", "none", "--etcd-image", f"registry.k8s.io/etcd:{self.version}-0"),
        ]
        self.times: list[tuple[str, float]] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    def protokube(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run protokube to its end."""
        return subprocess.run(
            [*self.common, *options], cwd=HERE.parent, capture_output=True, text=True, timeout=LIMIT, check=False
        )

    def start(self, name: str, argv: Sequence[str], environment: Mapping[str, str] = {}) -> subprocess.Popen[bytes]:
        """Start a process that stays; it logs to `<scratch>/<name>.log`."""
        with (self.scratch / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                argv,
                cwd=HERE.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )
        self.processes.append(process)
        return process

    def took(self, what: str, since: float) -> float:
        """Note how long a stage took."""
        self.times.append((what, time.monotonic() - since))
        return self.times[-1][1]

    def end(self) -> None:
        """End all processes that still run, the last one first."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(5)

    def manifests(self) -> dict[str, Pod]:
        """The pods that stand in kubelet's manifest folder."""
        folder = self.root / "etc/kubernetes/manifests"
        return {
            path.name: read_pod(path.read_text()) for path in sorted(folder.glob("[!.]*"), key=lambda path: path.stem)
        }


def etcd_version() -> str:
    """The version of the machine's own etcd, for the manifests to name."""
    said = output("etcd", "--version")
    match = re.search(r"etcd Version: (\d+\.\d+\.\d+)", said)
    if match is None:
        raise DemoError(f"etcd --version says {said!r}")
    return match[1]


def show_plan(node: Node) -> None:
    title("The plan: protokube --dry-run")
    since = time.monotonic()
    plan = node.protokube("--dry-run")
    if plan.returncode or node.root.exists():
        raise DemoError(f"the dry run exited {plan.returncode}: {plan.stdout}{plan.stderr}")
    took = node.took("dry run, the whole way foreseen", since)
    steps = plan.stdout.partition("Good to know:")[0].splitlines()
    for line in steps:
        print(f"  {DIM}{line}{PLAIN}")
    done("nothing was changed", took)


def run_daemon(node: Node) -> subprocess.Popen[bytes]:
    title("The act: protokube, the daemon, as systemd would run it")
    said = listen(node.scratch / "notify")
    since = time.monotonic()
    daemon = node.start("protokube", node.common, {"NOTIFY_SOCKET": str(node.scratch / "notify")})
    links = node.root / "etc/kubernetes/manifests"
    until("both manifests linked", lambda: (is_alive(daemon) and len(list(links.glob("[!.]*"))) == 2) or None)
    took = node.took("process start → both manifests linked", since)
    until("READY=1 from the daemon", lambda: (is_alive(daemon) and b"READY=1" in b"".join(said)) or None)
    done("disks attached, proven blank, formatted and mounted; names written; manifests linked", took)
    return daemon


def listen(path: Path) -> list[bytes]:
    """Play systemd's part of sd_notify(3): the list grows with every message that comes to the socket."""
    said: list[bytes] = []
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(path))

    def read() -> None:
        while True:
            said.append(notify.recv(4096))

    threading.Thread(target=read, daemon=True).start()
    return said


def is_alive(process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise DemoError(f"{process.args!r} exited with {process.returncode}")
    return True


def run_etcd(node: Node) -> dict[str, float]:
    title("virtual-kubelet, in kubelet's place: etcd starts from its manifests")
    since = time.monotonic()
    pods = node.start(
        "virtual-kubelet",
        [sys.executable, "-m", "protokube.agent", "--standalone", "--provider", "process", "--root", str(node.root)],
    )
    round_trips = {}
    for pod in node.manifests().values():
        port = pod.port
        until(f"{pod.name} healthy", partial(answers, pods, port))
        done(f"{pod.member} is healthy on 127.0.0.1:{port}", time.monotonic() - since)
        begun = time.monotonic()
        put_and_get(port, "protokube", f"was here, on {pod.name}")
        round_trips[pod.name] = time.monotonic() - begun
        done(f"put and get of a key on {pod.name}", round_trips[pod.name])
    node.took("manifests linked → both etcds healthy, a key written and read", since)
    return round_trips


def answers(pods: subprocess.Popen[bytes], port: int) -> bool | None:
    return (is_alive(pods) and healthy(port)) or None


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(json.load(answer)["health"] == "true")
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def call(port: int, path: str, body: Mapping[str, str]) -> Any:
    """etcd's JSON gateway; keys and values travel in base64."""
    encoded = {name: base64.b64encode(value.encode()).decode() for name, value in body.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v3/kv/{path}", json.dumps(encoded).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def put_and_get(port: int, key: str, value: str) -> None:
    call(port, "put", {"key": key, "value": value})
    (found,) = call(port, "range", {"key": key})["kvs"]
    if base64.b64decode(found["value"]).decode() != value:
        raise DemoError(f"etcd on port {port} gave back {found}")


def converge(node: Node, daemon: subprocess.Popen[bytes]) -> None:
    title("The daemon takes note, and ends")
    since = time.monotonic()
    identities = sorted(node.root.glob("mnt/master-*/k8s.io/identity.yaml"))
    states = sorted(node.scratch.glob("volumes/*.state"))

    def noted() -> bool | None:
        known = all("started: true" in path.read_text() for path in identities)
        marked = all("etcd-bootstrapped" in path.read_text() for path in states)
        return (is_alive(daemon) and len(identities) == len(states) == 2 and known and marked) or None

    until("the daemon has recorded that both members started", noted)
    done("both volumes bear the mark that their etcd has started: neither will ever bootstrap again")
    took = node.took("etcd healthy → recorded on the volumes", since)
    check = node.protokube("--dry-run", "--detailed-exitcode")
    if check.returncode:
        raise DemoError(f"the node is not converged:\n{check.stdout}{check.stderr}")
    done("the node is converged", took)
    since = time.monotonic()
    daemon.send_signal(signal.SIGTERM)
    if daemon.wait(10):
        raise DemoError(f"after SIGTERM the daemon exited with {daemon.returncode}")
    done("SIGTERM: it ends at once; etcd runs on", node.took("SIGTERM → exit 0", since))


def run_again(node: Node) -> None:
    title("Once more: protokube --once")
    since = time.monotonic()
    again = node.protokube("--once")
    verdict = again.stdout.strip().splitlines()[-1:] or [""]
    if again.returncode or "nothing left to do" not in verdict[0]:
        raise DemoError(f"the second run exited {again.returncode}:\n{again.stdout}{again.stderr}")
    done(f"exit 0: {verdict[0]}", node.took("second run, start to exit", since))


def output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def report(node: Node, round_trips: Mapping[str, float]) -> None:
    title("The node")
    rows: list[tuple[str, str, str]] = []
    for line in output("findmnt", "-rno", "TARGET,SOURCE,FSTYPE").splitlines():
        target, source, kind = line.split()
        if target.startswith(f"{node.root}/mnt/"):
            volume = target.rpartition("/master-")[2]
            used = (node.scratch / f"volumes/{volume}.img").stat().st_blocks * 512 / 1e6
            uuid = output("blkid", "-p", "-o", "value", "-s", "UUID", source)
            rows.append(("disk", volume, f"{source}, 1 GiB with {used:.0f} MB really used, {kind} {uuid}"))
            rows.append(("mount", target.removeprefix(f"{node.root}"), f"← {volume}"))
    for name in node.manifests():
        link = node.root / "etc/kubernetes/manifests" / name
        rows.append(("manifest", name, f"→ {link.readlink()}"))
    hosts = (node.root / "etc/hosts").read_text().splitlines()
    for line in (line for line in hosts if line and not line.startswith("#")):
        address, *names = line.split()
        rows += [("name", "" if name != names[0] else address, name) for name in names]
    for pod in node.manifests().values():
        port, took = pod.port, round_trips[pod.name] * 1000
        health = "healthy" if healthy(port) else "NOT HEALTHY"
        text = f"{node.version}, {health}, port {port}, put and get in {took:.0f} ms"
        rows.append(("etcd", pod.member, text))
    before = ""
    order = ("disk", "mount", "manifest", "name", "etcd")
    for kind, subject, text in sorted(rows, key=lambda row: order.index(row[0])):
        print(f"  {'' if kind == before else kind:<10}{subject:<26}{text}")
        before = kind
    title("The time it took")
    for what, seconds in node.times:
        print(f"  {seconds:>6.2f} s  {what}")


def inside(scratch: Path, keep: bool) -> int:
    """All of the node's life; this is process 1 of its namespace."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    (scratch / "network-namespace").write_text(str(Path("/proc/self/ns/net").readlink()))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", "10.77.0.1/32", "dev", "lo"], check=True)
    shutil.copy(HERE / "inventory.yaml", scratch)
    node = Node(scratch)
    try:
        show_plan(node)
        daemon = run_daemon(node)
        round_trips = run_etcd(node)
        converge(node, daemon)
        run_again(node)
        report(node, round_trips)
        if keep:
            (scratch / "kept").touch()
            for stream in (sys.stdout, sys.stderr):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            signal.pause()
        return 0
    except (DemoError, OSError, subprocess.SubprocessError) as problem:
        print(f"\n{RED}✗ {problem}{PLAIN}", flush=True)
        for log in sorted((*scratch.glob("*.log"), *scratch.glob("root/run/protokube/agent/containers/*.log"))):
            print(f"--- {log.name}, its end:\n{log.read_text(errors='replace')[-3000:]}", flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        node.end()


if __name__ == "__main__":
    sys.exit(inside(Path(sys.argv[1]), sys.argv[2] == "1"))
