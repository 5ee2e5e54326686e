"""A small tree that looks like a Debian, and runs of nodeup on it that may be killed at every effect."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from nodeup.observe import Observer
from nodeup.rounds import Run, converge
from nodeup.sources import Source, load
from nodeup.targets.image import image_tree

CONTAINERD = "1.6.20~ds1-1+deb12u1"
PACKAGES = {
    "dpkg": "1.21.22",
    "containerd": CONTAINERD,
    "containernetworking-plugins": "1.1.1+ds1-3+b13",
    "systemd-timesyncd": "252.30-1~deb12u2",
    "openssh-server": "1:9.2p1-2+deb12u3",
}
PROGRAMS = ("protokube", "nodeup", "kubelet", "containerd")
UNITS = ("ssh.service", "containerd.service", "systemd-time-wait-sync.service")


def debian(root: Path, packages: Mapping[str, str] = PACKAGES) -> Path:
    """A tree with packages, programs and units, and what an installation leaves of the machine that made it."""
    files = {
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "var/lib/dpkg/status": "\n".join(
            f"Package: {name}\nStatus: install ok installed\nArchitecture: arm64\nVersion: {version}\n"
            for name, version in packages.items()
        ),
        "usr/lib/cni/loopback": "",
        "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
        "var/lib/dbus/machine-id": "0123456789abcdef0123456789abcdef\n",
        "etc/hostname": "builder\n",
        "etc/ssh/ssh_host_ed25519_key": "-----BEGIN OPENSSH PRIVATE KEY-----\n",
        "etc/ssh/ssh_host_ed25519_key.pub": "ssh-ed25519 AAAA\n",
        **{f"usr/bin/{name}": "#!/bin/sh\n" for name in PROGRAMS},
        **{f"usr/lib/systemd/system/{name}": "[Service]\nExecStart=/bin/true\n" for name in UNITS},
    }
    for path, text in files.items():
        put(root, path, text)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "kubelet.service").symlink_to("/usr/lib/systemd/system/kubelet.service")
    return root


def put(root: Path, path: str, text: str) -> None:
    """A file in a tree; a script is executable."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755 if text.startswith("#!") else 0o644)


def picture(root: Path) -> dict[str, tuple[str, str]]:
    """Everything in a tree: kind and mode, and content or target. Times are no part of it."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        text = ""
        if stat.S_ISLNK(info.st_mode):
            text = os.readlink(path)
        elif stat.S_ISREG(info.st_mode):
            text = path.read_bytes().decode("latin-1")
        found[str(path.relative_to(root))] = (stat.filemode(info.st_mode), text)
    return found


def source(folder: Path, text: str) -> Source:
    """A configuration, as a run reads it."""
    file = folder / "node.yaml"
    file.write_text(text, encoding="utf-8")
    return load(str(file))


class Killed(BaseException):
    """The process was killed."""


class _Port:
    """A port whose calls may be the last thing that a process does."""

    def __init__(self, port: object, effect: Callable[[Callable[[], object]], object]) -> None:
        self._port = port
        self._effect = effect

    def __getattr__(self, name: str) -> Callable[..., object]:
        call = getattr(self._port, name)
        return lambda *given: self._effect(lambda: call(*given))


class Kills:
    """Ends a run at its effect number `at`, before or after it; the effects of a pass run one after the other."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.left = at
        self.after = after

    def effect(self, call: Callable[[], object]) -> object:
        """Do it, unless the process has been killed before."""
        if self.left < 0:
            raise Killed
        self.left -= 1
        if self.left < 0 and not self.after:
            raise Killed
        result = call()
        if self.left < 0:
            raise Killed
        return result


def image_run(given: Source, root: Path, kills: Kills | None = None) -> Run:
    """A run of `--target image`."""
    observer, writers = image_tree(given, str(root), str(root.parent / "cache"))
    return run(observer, writers, kills)


def run(observer: Observer, writers: Mapping[str, object], kills: Kills | None = None) -> Run:
    """A run that may be killed."""
    if kills is not None:
        writers = {name: _Port(port, kills.effect) for name, port in writers.items()}
    return converge(observer, writers)
