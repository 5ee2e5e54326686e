"""Reads the facts of a machine, or of an image's tree, without starting a program wherever a file tells as well."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from protokube.core.node import kernel
from protokube.core.node.asset_settings import PROGRAM_PLACES
from protokube.core.node.assets import ARCHITECTURES
from protokube.core.node.containerd import DEBIAN_PLUGINS, HEAD, MIRRORS, PLUGIN_DIRECTORIES
from protokube.core.node.machine import MachineFacts, OsRelease, Running
from protokube.core.node.unit_files import PACKAGED
from protokube.host.kubelet import swap_of
from protokube.host.walk import real_path
from protokube.kernel.clock import clock_in_sync

PROGRAMS = ("protokube", "nodeup", "kubelet", "virtual-kubelet", "containerd")
PLACES = tuple(reversed(PROGRAM_PLACES))

_GO_NAMES = {"armhf": "arm", "armel": "arm", "i386": "386", "ppc64el": "ppc64le"}
_UNFINISHED = ("half-installed", "unpacked", "half-configured")
_CAP_SYS_MODULE = 16


class TreeReader:
    """The facts of the tree below `root`. With `running` it is this machine's own, and the running system's facts
    are read as well."""

    def __init__(self, root: str, *, running: bool) -> None:
        self._root = os.path.realpath(root)
        self._running = running
        self._asked: tuple[tuple[int, int, int], str] | None = None

    def read(self, units: Collection[str], sysctls: Collection[str]) -> MachineFacts:
        """All facts. `units`: those that a package may have brought; `sysctls`: those whose values matter."""
        status = self._text("/var/lib/dpkg/status")
        packages, unfinished = _packages(status)
        programs = {name: path for name in PROGRAMS if (path := self._program(name)) is not None}
        return MachineFacts(
            os=_os_release(self._text("/etc/os-release") or self._text("/usr/lib/os-release")),
            architecture=_architecture(status),
            packages=packages,
            programs=programs,
            packaged_units={unit: path for unit in units if (path := self._packaged(unit)) is not None},
            containerd=self._containerd(programs.get("containerd"), packages),
            plugins=tuple(place for place in PLUGIN_DIRECTORIES if (self._at(place) / "loopback").exists()),
            debian_plugins=tuple(sorted(path.name for path in self._at(DEBIAN_PLUGINS).glob("*") if path.is_file())),
            mirrors=tuple(sorted(path.parent.name for path in self._at(MIRRORS).glob("*/hosts.toml") if _ours(path))),
            machine_id=self._text("/etc/machine-id").strip() if self._running else "",
            interrupted=unfinished or any(self._at("/var/lib/dpkg/updates").glob("[0-9]*")),
            running=self._read_running(sysctls) if self._running else None,
        )

    def _at(self, path: str) -> Path:
        """Where a path of the tree lies. No link of a tree leads to a file of the machine that builds it."""
        return real_path(self._root, path)

    def _text(self, path: str) -> str:
        """A file's text; empty where there is none."""
        try:
            return self._at(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _program(self, name: str) -> str | None:
        return next((path for place in PLACES if os.access(self._at(path := f"{place}/{name}"), os.X_OK)), None)

    def _packaged(self, unit: str) -> str | None:
        return next((path for place in PACKAGED if self._at(path := f"{place}/{unit}").is_file()), None)

    def _containerd(self, program: str | None, packages: Mapping[str, str]) -> str | None:
        """The version of the containerd that runs: its package's, else what the program says.

        A tree's program may be for another machine, and is never run.
        """
        if program is None:
            return None
        if program.startswith("/usr/bin/") and (known := packages.get("containerd") or packages.get("containerd.io")):
            return known
        if not self._running:
            return "unknown: no package brought it"
        info = self._at(program).stat()
        key = info.st_ino, info.st_mtime_ns, info.st_size
        if self._asked is None or self._asked[0] != key:
            self._asked = key, _version_of(self._at(program))
        return self._asked[1]

    def _read_running(self, sysctls: Collection[str]) -> Running:
        values = {key: self._text(f"/proc/sys/{kernel.sysctl_path(key)}").strip() for key in sysctls}
        known = {key: value for key, value in values.items() if self._sysctl(key).exists()}
        return Running(
            systemd=self._at("/run/systemd/system").is_dir(),  # as sd_booted(3) does
            modules=frozenset(self._modules()),
            can_load=self._can_load(),
            sysctls=known,
            fixed=frozenset(key for key in known if not os.access(self._sysctl(key), os.W_OK)),
            swap=swap_of(self._text("/proc/swaps")),
            hostname=os.uname().nodename,  # platform.node() remembers its first answer
            cloud_hostname=_cloud_hostname(self._text("/run/cloud-init/instance-data.json")),
            clock=time.time(),
            synchronised=_in_sync(),
        )

    def _sysctl(self, key: str) -> Path:
        return self._at(f"/proc/sys/{kernel.sysctl_path(key)}")

    def _modules(self) -> Iterator[str]:
        """Modules that are loaded or built in, spelled with underscores."""
        yield from (line.split()[0] for line in self._text("/proc/modules").splitlines())
        yield from (path.name for path in self._at("/sys/module").glob("*"))
        builtin = self._text(f"/lib/modules/{platform.release()}/modules.builtin")
        yield from (Path(line).name.removesuffix(".ko").replace("-", "_") for line in builtin.splitlines())
        # A kernel without modules shows what it has by what it offers.
        if "\toverlay\n" in self._text("/proc/filesystems"):
            yield "overlay"
        if self._at("/proc/sys/net/bridge").is_dir():
            yield "br_netfilter"

    def _can_load(self) -> bool:
        capable = re.search(r"^CapEff:\s*([0-9a-f]+)$", self._text("/proc/self/status"), flags=re.MULTILINE)
        forbidden = self._text("/proc/sys/kernel/modules_disabled").strip() == "1"
        has_modules = self._at("/proc/modules").exists()
        return (
            has_modules and not forbidden and capable is not None and bool(int(capable[1], 16) >> _CAP_SYS_MODULE & 1)
        )


def _in_sync() -> bool | None:
    try:
        return clock_in_sync()
    except PermissionError:
        return None


def _ours(path: Path) -> bool:
    """Whether nodeup has written a file for containerd."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").startswith(HEAD)
    except OSError:
        return False


def _os_release(text: str) -> OsRelease:
    found = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', text, flags=re.MULTILINE))
    return OsRelease(found.get("ID", ""), found.get("VERSION_ID", ""), found.get("PRETTY_NAME", "an unknown system"))


def _architecture(status: str) -> str:
    """The tree's architecture is that of its dpkg, whatever machine builds it; in Go's words."""
    found = re.search(r"^Package: dpkg\n(?:\S.*\n|\s.*\n)*?Architecture: (\S+)$", status, flags=re.MULTILINE)
    if found is None:
        return ARCHITECTURES.get(platform.machine(), platform.machine())
    return _GO_NAMES.get(found[1], found[1])


def _packages(status: str) -> tuple[dict[str, str], bool]:
    """The installed packages with their versions, and whether dpkg left one unfinished."""
    found: dict[str, str] = {}
    unfinished = False
    for block in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", block, flags=re.MULTILINE))
        state = fields.get("Status", "").rpartition(" ")[2]
        unfinished = unfinished or state in _UNFINISHED
        if state == "installed" and "Package" in fields:
            found[fields["Package"]] = fields.get("Version", "")
    return found, unfinished


def _version_of(program: Path) -> str:
    """What `containerd --version` says; where it can't be run, the reason, which no release is called."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown: {error}"
    found = re.search(r"\bv?(\d+\.\d+\.\S+)", done.stdout)
    return found[1] if found else f"unknown: {done.stdout.strip()[:80]}"


def _cloud_hostname(text: str) -> str | None:
    """cloud-init's own answer; it is there once cloud-init has asked the cloud."""
    try:
        name = json.loads(text)["v1"]["local_hostname"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) and name else None
