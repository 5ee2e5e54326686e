"""The shipped unit files on a real systemd, with stand-ins for the programs: what their options really do.

The stand-in for protokube does what the daemon does under the unit's restrictions (mkfs, mount, chattr, netlink,
inotify, D-Bus, /proc of others) and then sleeps beside a child that stands for a long mkfs.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import inside
from tests.lab.systemd_node import SystemdNode

pytestmark = pytest.mark.root

PROJECT = Path(__file__).parents[2]
UNITS = {name: (PROJECT / "systemd" / name).read_text() for name in ("protokube.service", "kubelet.service")}
LIMIT = 120.0

PROTOKUBE = f"""#!{inside.PYTHON}
import asyncio, json, os, signal, subprocess, sys, threading, time
from pathlib import Path
sys.path.insert(0, {inside.CHECKOUT!r})
from protokube.host.network import default_addresses
from protokube.host.notify import Notifier
from protokube.host.systemd import SystemBus
from protokube.host.watch import DirectoryWatcher

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
code = Path("/run/exit-with")
if code.exists():
    sys.exit(int(code.read_text()))

report = {{"pid": os.getpid(), "variable": os.environ.get("PROTOKUBE_MASTER")}}
def tool(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    report[argv[0]] = done.stdout + done.stderr if done.returncode else "ok"

disk = os.environ.get("DISK")
if disk and not os.path.ismount("/mnt/volume"):
    tool("mkfs.ext4", "-q", disk)
    tool("e2fsck", "-p", disk)
    tool("blkid", "-p", disk)
    os.makedirs("/mnt/volume", exist_ok=True)
    tool("mount", "-o", "noatime,nodev,nosuid,errors=remount-ro", disk, "/mnt/volume")
    Path("/mnt/volume/file").touch()
    tool("chattr", "+i", "/mnt/volume/file")
report["netlink"] = list(default_addresses())
report["seccomp"] = "Seccomp:\\t2" in Path("/proc/self/status").read_text()
report["other process"] = Path("/proc/1/comm").read_text().strip()

loop = asyncio.new_event_loop()
DirectoryWatcher(loop, print, print).watch(Path("/dev"))
threading.Thread(target=loop.run_forever, daemon=True).start()
bus = SystemBus(loop, None)
bus.start("kubelet.service")
report["kubelet"] = bus.state("kubelet.service").active
report["protokube"] = bus.state("protokube.service").active

child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
report["child"] = child.pid
notifier = Notifier(os.environ)
report["watchdog"] = notifier.watchdog_interval
Path("/run/report.new").write_text(json.dumps(report))
os.rename("/run/report.new", "/run/report")
notifier.ready("converged")
while not os.path.exists("/run/hang"):
    notifier.watchdog()
    time.sleep(0.2)
time.sleep(1000)
"""

KUBELET = """#!/bin/sh
printf '%s\\n' "$@" > /run/kubelet-args.new
mv /run/kubelet-args.new /run/kubelet-args
exec sleep 1000
"""

FILES = {
    **{f"/etc/systemd/system/{name}": text for name, text in UNITS.items()},
    # Only what a test would otherwise wait for.
    "/etc/systemd/system/protokube.service.d/quick.conf": "[Service]\nRestartSec=100ms\nWatchdogSec=2s\n",
    "/etc/systemd/system/kubelet.service.d/quick.conf": "[Service]\nRestartSec=100ms\n",
    "/usr/bin/protokube": PROTOKUBE,
    "/usr/bin/kubelet": KUBELET,
    "/etc/sysconfig/kubelet": 'DAEMON_ARGS="--v=2 --config=/var/lib/kubelet/config.yaml"\n',
}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SystemdNode]:
    with SystemdNode(tmp_path, files=FILES, all_capabilities=True) as node:
        yield node


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    found = subprocess.run(["losetup", "-f", "--show", image], check=True, text=True, capture_output=True)
    device = found.stdout.strip()
    yield device
    subprocess.run(["losetup", "-d", device], check=True)


def started(node: SystemdNode) -> dict[str, object]:
    """Start protokube, wait until it is ready, and return what it found."""
    node.run("systemctl", "start", "protokube.service")
    return report(node)


def report(node: SystemdNode) -> dict[str, object]:
    found: dict[str, object] = json.loads(node.path("/run/report").read_text())
    return found


def alive(node: SystemdNode, pid: object) -> bool:
    return node.path(f"/proc/{pid}/exe").exists()


def wait_until(condition: Callable[[], bool], node: SystemdNode) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, node.journal("protokube.service")
        time.sleep(0.02)


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_finds_no_fault(node: SystemdNode, unit: str) -> None:
    verify = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no"]
    done = node.run(*verify, f"/etc/systemd/system/{unit}")
    assert done.stdout + done.stderr == ""
    wrong = node.path(f"/etc/systemd/system/x-{unit}")
    wrong.write_text(UNITS[unit].replace("Restart=", "Rstart="))
    assert node.run(*verify, f"/etc/systemd/system/x-{unit}", check=False).returncode == 1


def test_the_unit_may_do_little_more_than_it_needs() -> None:
    unit = str(PROJECT / "systemd/protokube.service")
    command = ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=45", unit]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_protokube_starts_kubelet() -> None:
    lines = UNITS["kubelet.service"].splitlines()
    assert "[Install]" not in lines


def test_nothing_gives_the_unit_a_mount_namespace(node: SystemdNode) -> None:
    started(node)
    pid = report(node)["pid"]
    ours = node.run("readlink", f"/proc/{pid}/ns/mnt", "/proc/1/ns/mnt").stdout.split()
    assert ours[0] == ours[1]


def test_everything_the_daemon_does_is_permitted(tmp_path: Path, disk: str) -> None:
    files = {**FILES, "/etc/sysconfig/protokube": f"PROTOKUBE_MASTER=true\nDISK={disk}\n"}
    with SystemdNode(tmp_path / "node", files=files, binds=[disk], all_capabilities=True) as node:
        found = started(node)
        tools = ("mkfs.ext4", "e2fsck", "blkid", "mount", "chattr")
        assert {tool: found[tool] for tool in tools} == dict.fromkeys(tools, "ok")
        assert found["seccomp"]  # else the filter of this unit wasn't what was tried
        assert found["other process"] == "systemd"
        assert found["netlink"] == []
        assert found["variable"] == "true"
        assert found["watchdog"] == 1.0  # half of the limit
        # PID 1, and so kubelet, sees the mount.
        assert f"{disk} /mnt/volume ext4 rw,nosuid,nodev,noatime" in node.path("/proc/1/mounts").read_text()
        node.run("chattr", "-i", "/mnt/volume/file")
        node.run("umount", "/mnt/volume")


CLOUD_INIT = {
    "cloud-init.service": """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'read go </run/go && mount -t tmpfs ephemeral /mnt'
""",
    # As Debian's: after multi-user.target, and user data may start units and wait for them.
    "cloud-final.service": """[Unit]
After=cloud-init.service booted.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/systemctl start protokube.service
""",
    "booted.target": """[Unit]
Wants=cloud-init.service cloud-final.service
""",
}
"""cloud-init's stages as far as they order units, with a tmpfs for the ephemeral disk."""


@pytest.mark.parametrize("enabled", [False, True])
def test_the_ephemeral_disk_is_mounted_before_the_start(tmp_path: Path, enabled: bool) -> None:
    """User data start the daemon at the first boot, and the boot itself does at the next ones."""
    files = FILES | {f"/etc/systemd/system/{name}": text for name, text in CLOUD_INIT.items()}
    if enabled:
        files["/etc/systemd/system/booted.target"] += "Wants=protokube.service\n"
    with SystemdNode(tmp_path, files=files, all_capabilities=True) as node:

        def state(unit: str) -> str:
            return node.run("systemctl", "show", "-P", "ActiveState", unit).stdout.strip()

        node.run("mkfifo", "/run/go")
        node.run("systemctl", "start", "--no-block", "booted.target")
        wait_until(lambda: state("cloud-init.service") == "activating", node)
        jobs = node.run("systemctl", "list-jobs", "--no-legend").stdout.split("\n")
        waiting = [line.split()[3] for line in jobs if "protokube.service" in line]
        assert waiting == (["waiting"] if enabled else []) and state("protokube.service") == "inactive"
        node.run("sh", "-c", "echo >/run/go")
        wait_until(lambda: state("cloud-final.service") == "active", node)
        assert report(node)["protokube"] == "activating"
        assert "ephemeral /mnt tmpfs" in node.path("/proc/1/mounts").read_text()
        assert "cycle" not in node.run("journalctl", "--no-pager", "-b").stdout


def test_kubelet_starts_before_protokube_is_ready(node: SystemdNode) -> None:
    """With Before=kubelet.service, systemd would hold kubelet's start back until then."""
    found = started(node)
    assert (found["kubelet"], found["protokube"]) == ("active", "activating")


def stop(node: SystemdNode, _: dict[str, object]) -> None:
    node.run("systemctl", "stop", "protokube.service")


def restart(node: SystemdNode, before: dict[str, object]) -> None:
    node.run("systemctl", "restart", "protokube.service")
    assert report(node)["pid"] != before["pid"]


def kill_9(node: SystemdNode, before: dict[str, object]) -> None:
    node.run("kill", "-9", str(before["pid"]))
    wait_until(lambda: report(node)["pid"] != before["pid"], node)


def hang(node: SystemdNode, before: dict[str, object]) -> None:
    node.path("/run/hang").touch()
    wait_until(lambda: not alive(node, before["pid"]), node)
    node.path("/run/hang").unlink()
    wait_until(lambda: report(node)["pid"] != before["pid"], node)
    assert "Watchdog timeout" in node.journal("protokube.service")


@pytest.mark.parametrize("end", [stop, restart, kill_9, hang])
def test_mkfs_survives_the_daemon(node: SystemdNode, end: Callable[[SystemdNode, dict[str, object]], None]) -> None:
    before = started(node)
    end(node, before)
    assert not alive(node, before["pid"])
    assert alive(node, before["child"]), node.journal("protokube.service")


@pytest.mark.parametrize(("code", "again"), [(0, True), (1, True), (64, False), (77, False), (78, False)])
def test_what_is_tried_again(node: SystemdNode, code: int, again: bool) -> None:
    node.path("/run/exit-with").write_text(str(code))
    node.run("systemctl", "start", "--no-block", "protokube.service")

    def show(name: str) -> str:
        return node.run("systemctl", "show", "-P", name, "protokube.service").stdout.strip()

    if again:
        wait_until(lambda: int(show("NRestarts")) > 6, node)  # more often than systemd's default allows
    else:
        wait_until(lambda: show("ActiveState") == "failed", node)
        assert show("NRestarts") == "0"
        assert show("ExecMainStatus") == str(code)


class TestKubelet:
    def test_arguments_come_from_the_file(self, node: SystemdNode) -> None:
        node.run("systemctl", "start", "kubelet.service")
        wait_until(node.path("/run/kubelet-args").exists, node)
        text = node.path("/run/kubelet-args").read_text()
        assert text == "--v=2\n--config=/var/lib/kubelet/config.yaml\n"

    def test_without_the_file_it_doesnt_start(self, node: SystemdNode) -> None:
        """A kubelet without its flags would register a node that isn't ours."""
        node.path("/etc/sysconfig/kubelet").unlink()
        assert node.run("systemctl", "start", "kubelet.service", check=False).returncode != 0
        assert not node.path("/run/kubelet-args").exists()

    def test_it_comes_back(self, node: SystemdNode) -> None:
        def pid() -> str:
            return node.run("systemctl", "show", "-P", "MainPID", "kubelet.service").stdout.strip()

        node.run("systemctl", "start", "kubelet.service")
        first = pid()
        node.run("kill", "-9", first)
        wait_until(lambda: pid() not in ("0", first), node)
