"""A virtual machine with a real udev, NVMe disks that are plugged in while it runs, and a kernel of its own.

QEMU without KVM (TCG), Debian's cloud kernel, no initrd: the kernel has NVMe, ext4 and PCIe hot-plug built in. The
machine is spoken to through an agent on a virtio port, so that it needs no network for that.

    with Vm(tmp_path, image, kernel, tap="tap0") as vm:
        vm.plug_in_disk(Path("disk.img"), "vol0123456789abcdef0")
        vm.run("cat /sys/block/nvme1n1/device/serial")

Needs root, and the Debian packages of .ci/packages-vm.
"""

from __future__ import annotations

import json
import select
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

BOOT_LIMIT = 900.0
_SLOTS = 4
_PACKAGES = """systemd systemd-sysv dbus udev e2fsprogs iproute2 python3 util-linux kmod mount
linux-image-cloud-amd64"""
_SUITE, _PYTHON = "bookworm", "3.11"

_AGENT = r"""
import json, os, subprocess, time
port = os.open("/dev/virtio-ports/agent", os.O_RDWR)
os.write(port, b'{"hello": 1}\n')
buffer = b""
while True:
    data = os.read(port, 65536)
    if not data:
        time.sleep(0.05)
    buffer += data
    while b"\n" in buffer:
        line, buffer = buffer.split(b"\n", 1)
        done = subprocess.run(json.loads(line), shell=True, text=True, capture_output=True)
        answer = (json.dumps([done.returncode, done.stdout, done.stderr]) + "\n").encode()
        while answer:
            answer = answer[os.write(port, answer):]
"""

_AGENT_UNIT = """
[Unit]
After=systemd-udevd.service dbus.socket basic.target
[Service]
ExecStartPre=-/sbin/modprobe -a virtio_pci virtio_console
ExecStartPre=/bin/sh -c 'for i in $(seq 600); do [ -e /dev/virtio-ports/agent ] && exit 0; sleep 0.1; done; exit 1'
ExecStart=/usr/bin/python3 -u /opt/agent.py
Restart=always
"""

_UNWANTED = """apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service
fstrim.timer systemd-timesyncd.service getty@tty1.service systemd-random-seed.service systemd-logind.service"""


def fetch(folder: Path, requirements: Sequence[str]) -> None:
    """Get a minimal Debian (`root`) and Python packages for it (`lib`). Takes a minute and a network: only once."""
    if (folder / "made").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES.split())}"]
    _run(*command, _SUITE, str(folder / "root"), *mirror())
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--target", str(folder / "lib"), "--python-version", _PYTHON, "--only-binary=:all:"]
    _run(*command, *requirements)
    (folder / "made").touch()


def make_image(
    root: Path, files: Mapping[str, str], trees: Mapping[str, Path], image: Path, *, stock: bool = False
) -> Path:
    """A bootable disk from a Debian root. `files` are path → text; `trees` are path → directory to copy there.

    `stock`: nothing is masked, and the machine has no identity yet, as an image that a cloud starts.
    """
    units = "/etc/systemd/system"
    own = {"/opt/agent.py": _AGENT, f"{units}/agent.service": _AGENT_UNIT, "/etc/fstab": "", "/etc/hostname": "vm\n"}
    for path, text in {**own, **files}.items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if text.startswith("#!") else 0o644)
    for path, tree in trees.items():
        shutil.rmtree(root / path.lstrip("/"), ignore_errors=True)
        shutil.copytree(tree, root / path.lstrip("/"), ignore=shutil.ignore_patterns("__pycache__"))
    wants = root / f"{units}/multi-user.target.wants".lstrip("/")
    wants.mkdir(parents=True, exist_ok=True)
    links = {wants / "agent.service": "../agent.service", root / "etc/systemd/system/default.target": _TARGET}
    if not stock:
        links |= {root / "etc/systemd/system" / unit: "/dev/null" for unit in _UNWANTED.split()}
    for link, target in links.items():
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    (root / "etc/machine-id").write_text("" if stock else _run("systemd-id128", "new"))
    image.unlink(missing_ok=True)
    _run("truncate", "-s", "3G", str(image))
    _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", "-d", str(root), str(image))
    return image


_TARGET = "/lib/systemd/system/multi-user.target"


class Vm:
    """One machine. `base` is a directory of its own; `tap` names a tap device of this network namespace."""

    def __init__(self, base: Path, image: Path, kernel: Path, tap: str) -> None:
        self._base = base
        self._image = image
        self._kernel = kernel
        self._tap = tap
        self.disks: list[tuple[Path, str]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def __enter__(self) -> Self:
        self._base.mkdir(parents=True, exist_ok=True)
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> Self:
        """Switch it on, with the disks that were plugged in before, and wait for its agent."""
        for name in ("qmp", "agent"):
            (self._base / name).unlink(missing_ok=True)
        root = f"if=none,id=root,file={self._image},format=raw,cache=unsafe"
        command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-machine", "q35", "-smp", "2"]
        command += ["-m", "768", "-nodefaults", "-display", "none", "-no-reboot", "-kernel", str(self._kernel)]
        command += ["-append", "root=/dev/nvme0n1 rw console=ttyS0 quiet panic=-1 mitigations=off net.ifnames=0"]
        command += ["-serial", f"file:{self._base}/console.log", "-drive", root]
        command += ["-device", "nvme,drive=root,serial=vol0root,bus=pcie.0,addr=0x4", "-device", "virtio-serial-pci"]
        command += ["-chardev", f"socket,id=agent,path={self._base}/agent,server=on,wait=off"]
        command += ["-device", "virtserialport,chardev=agent,name=agent", "-device", "virtio-rng-pci"]
        command += ["-netdev", f"tap,id=net0,ifname={self._tap},script=no,downscript=no"]
        command += ["-device", "virtio-net-pci,netdev=net0", "-qmp", f"unix:{self._base}/qmp,server=on,wait=off"]
        for slot in range(_SLOTS):
            command += ["-device", f"pcie-root-port,id=port{slot},chassis={slot + 1},slot={slot + 1}"]
        for slot, (image, serial) in enumerate(self.disks):
            command += ["-drive", f"if=none,id=disk{slot},file={image},format=raw"]
            command += ["-device", f"nvme,drive=disk{slot},serial={serial},bus=port{slot}"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        with ExitStack() as undo:
            undo.callback(self.kill)
            self._connect()
            undo.pop_all()
        return self

    def plug_in_disk(self, image: Path, serial: str) -> None:
        """Plug an NVMe disk in, as EBS does."""
        slot = len(self.disks)
        node = f"hot{slot}"
        back = {"node-name": node, "driver": "raw", "file": {"driver": "file", "filename": str(image)}}
        self._qmp("blockdev-add", back)
        self._qmp("device_add", {"driver": "nvme", "drive": node, "serial": serial, "bus": f"port{slot}"})
        self.disks.append((image, serial))

    def run(self, command: str, *, check: bool = True) -> str:
        """Run a shell command in the machine; its output."""
        self._agent.sendall((json.dumps(command) + "\n").encode())
        code, out, err = self._line(120.0)
        assert not check or code == 0, f"{command}: exit {code}: {out}{err}"
        return str(out)

    def reboot(self) -> Self:
        """Reboot in order."""
        assert self._process is not None
        self._agent.sendall(b'"systemctl --no-block reboot"\n')  # which may end the agent before it answers
        self._process.wait(120)
        self._ended()
        return self.start()

    def kill(self) -> None:
        """Cut its power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._ended()

    def _ended(self) -> None:
        self._process = None
        for name in ("_agent", "_monitor", "_monitor_file"):
            if connection := self.__dict__.pop(name, None):
                connection.close()

    def _connect(self) -> None:
        assert self._process is not None
        while not all((self._base / name).exists() for name in ("qmp", "agent")):
            assert self._process.poll() is None, "qemu did not start"
            time.sleep(0.02)
        self._monitor = socket.socket(socket.AF_UNIX)
        self._monitor.connect(str(self._base / "qmp"))
        self._monitor_file = self._monitor.makefile("rw")
        self._monitor_file.readline()
        self._qmp("qmp_capabilities", {})
        self._agent = socket.socket(socket.AF_UNIX)
        self._agent.connect(str(self._base / "agent"))
        self._buffer = b""
        self._line(BOOT_LIMIT)

    def _line(self, limit: float) -> Any:
        deadline = time.monotonic() + limit
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._agent], [], [], max(0.0, deadline - time.monotonic()))
            data = self._agent.recv(65536) if ready else b""
            if not data:
                console = (self._base / "console.log").read_text(errors="replace")
                raise AssertionError(f"no answer within {limit:.0f} s:\n{console[-4000:]}")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def _qmp(self, command: str, arguments: Mapping[str, Any]) -> None:
        self._monitor_file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._monitor_file.flush()
        while "return" not in (answer := json.loads(self._monitor_file.readline())):
            assert "error" not in answer, f"{command} {arguments}: {answer['error']}"


def mirror() -> list[str]:
    """The mirror that this machine is set up with; debootstrap's own choice where it can't be told."""
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    lines = sources.read_text().splitlines() if sources.exists() else []
    return [line.split()[1] for line in lines if line.startswith("URIs:")][:1]


def _run(*command: str) -> str:
    done = subprocess.run(command, text=True, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, f"{command}: exit {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def main() -> None:
    """Fetch what the machines are made of into the directory given, with this project's own requirements."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    fetch(Path(sys.argv[1]), project["dependencies"])


if __name__ == "__main__":
    main()
