"""The installed kubelet and the machine that it is to serve.

Facts that can't change while the machine runs, and the answers of a binary, are asked once. Facts that an
administrator may change (swap, name servers) are read in every reconcile; that costs a few small files.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from protokube.core.component.schema import flags_of_help
from protokube.core.kubelet.machine import numbers_of
from protokube.core.kubelet.model import KubeletBinary, Machine
from protokube.errors import ProviderError
from protokube.together import start

T = TypeVar("T")

PLACES = ("usr/bin/kubelet", "usr/local/bin/kubelet", "opt/bin/kubelet")
OPTIONS = ("--version", "--help")
_MEMINFO = Path("/proc/meminfo")
_LIMIT = 10.0
"""Seconds within which kubelet answers --version or --help."""


class InstalledKubelet:
    """Implements `ports.KubeletProbe`. The binary is asked again only when the file behind it has changed."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)
        self._asked: tuple[tuple[str, int, int, int], KubeletBinary] | None = None
        self._size: tuple[int, int] | None = None

    def machine(self) -> Machine:
        """The machine's facts. Whether systemd is PID 1 is found out as sd_booted(3) does."""
        if self._size is None:
            self._size = _memory_of(_MEMINFO.read_text(encoding="ascii")), os.cpu_count() or 1
        memory, cpus = self._size
        return Machine(
            memory,
            cpus,
            systemd=Path(self._root, "run/systemd/system").is_dir(),
            cgroup_v2=self._cgroup_v2(),
            swap=self._read("proc/swaps", swap_of),
            online_cpus=self._read("sys/devices/system/cpu/online", _numbers),
            numa_nodes=self._read("sys/devices/system/node/online", _numbers),
            nameservers=self._read("etc/resolv.conf", _nameservers_of),
            uplink_nameservers=self._read("run/systemd/resolve/resolv.conf", _nameservers_of),
        )

    def _cgroup_v2(self) -> bool | None:
        folder = self._root / "sys/fs/cgroup"
        # Only the root of the unified hierarchy has this file; with v1, hybrid too, a tmpfs is mounted here.
        return (folder / "cgroup.controllers").is_file() if folder.is_dir() else None

    def _read(self, path: str, parse: Callable[[str], T]) -> T | None:
        """A small file, parsed; None when it isn't there or can't be parsed."""
        try:
            return parse((self._root / path).read_text(encoding="utf-8", errors="replace"))
        except (OSError, ValueError):
            return None

    def kubelet(self, named: str | None = None) -> KubeletBinary | None:
        """The answers of `kubelet --version` and `--help`; None when there is no kubelet below the root.

        `named` is the program that kubelet's unit starts. Where that is another program (a script that starts kubelet
        in turn), and without it, the usual places are searched.
        """
        found = self._find(named)
        if found is None:
            return None
        state = found.stat()
        key = (str(found), state.st_ino, state.st_mtime_ns, state.st_size)
        if self._asked is None or self._asked[0] != key:
            asking = [start(f"kubelet {option}", partial(self._ask, found, option)) for option in OPTIONS]
            version, text = (answer.result() for answer in asking)
            self._asked = key, KubeletBinary(version.strip().removeprefix("Kubernetes").strip(), flags_of_help(text))
        return self._asked[1]

    def _find(self, named: str | None) -> Path | None:
        if named is not None and Path(named).name == "kubelet":
            path = self._root / named.lstrip("/")
            return path if path.is_file() else None
        return next((path for place in PLACES if (path := self._root / place).is_file()), None)

    def _ask(self, binary: Path, option: str) -> str:
        if not os.access(binary, os.X_OK):
            raise ProviderError(f"{binary} is not executable; install kubelet properly")
        try:
            done = subprocess.run(
                [binary, option], capture_output=True, errors="backslashreplace", timeout=_LIMIT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProviderError(f"{binary} {option}: {error}; is it the binary for this machine?") from error
        if done.returncode != 0:
            raise ProviderError(f"{binary} {option} exited {done.returncode}: {done.stderr.strip()[:200]}")
        return done.stdout or done.stderr


def _memory_of(text: str) -> int:
    """The machine's memory in bytes, as kubelet finds it in /proc/meminfo."""
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("MemTotal:"))


def swap_of(text: str) -> tuple[str, ...]:
    """The swap devices and files in /proc/swaps, whose first line is a heading."""
    return tuple(line.split()[0] for line in text.splitlines()[1:] if line.strip())


def _numbers(text: str) -> frozenset[int]:
    """The numbers in a list of the kernel's, such as 0-3,6."""
    return frozenset(numbers_of(text))


def _nameservers_of(text: str) -> tuple[str, ...]:
    """The name servers of a resolv.conf(5)."""
    words = (line.split() for line in text.splitlines())
    return tuple(word[1] for word in words if len(word) > 1 and word[0] == "nameserver")
