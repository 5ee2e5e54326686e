"""Changes a running machine: modules, sysctls, host name, swap, and packages by apt."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from protokube.core.node import clock, kernel
from protokube.core.node.machine_actions import package_name
from protokube.errors import ProviderError, explain
from protokube.host.process import ToolMissingError, tool
from protokube.kernel.calls import swapoff

LOCK_PATIENCE = 600
"""Seconds that apt waits for another program's dpkg: unattended upgrades, or cloud-init's packages."""

_MODPROBE_LIMIT = 60
_APT_LIMIT = 3000

_APT_ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "LC_ALL": "C",
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    # systemctl asks PID 1 for nothing then (systemd's docs/ENVIRONMENT.md). A package would start its unit otherwise,
    # and wait for it, while that unit waits for nodeup.service: neither would ever end.
    "SYSTEMD_OFFLINE": "1",
    "NEEDRESTART_SUSPEND": "1",
}
_APT_OPTIONS = (
    "-q",
    "-y",
    "-o",
    f"DPkg::Lock::Timeout={LOCK_PATIENCE}",
    # An administrator's, or our own, configuration files stay.
    "-o",
    "Dpkg::Options::=--force-confold",
)


class RunningMachine:
    """Implements core.node.machine_actions.MachineWriter on the machine below `root`, which is the running one."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def load_module(self, name: str) -> None:
        """Load a kernel module by modprobe, which knows what it needs."""
        self._run("modprobe", name, limit=_MODPROBE_LIMIT, advice="is it in this kernel's packages?")

    def set_sysctl(self, key: str, value: str) -> None:
        """Write the value where the kernel takes it."""
        path = self._root / "proc/sys" / kernel.sysctl_path(key)
        advice = {errno.EINVAL: f"the kernel doesn't take {value!r}", errno.ENOENT: "this kernel has no such sysctl"}
        with explain(f"set {key} = {value}", advice):
            path.write_text(f"{value}\n", encoding="utf-8")

    def set_hostname(self, name: str) -> None:
        """Set the kernel's host name; /etc/hostname is a file like any other."""
        with explain(f"name this machine {name}"):
            socket.sethostname(name)

    def turn_off_swap(self, devices: Sequence[str]) -> None:
        """Turn each device off; its pages move to memory."""
        for device in devices:
            with explain(
                f"turn off swap on {device}", {errno.ENOMEM: "there is too little memory for what it holds"}
            ):
                swapoff(device)

    def finish_packages(self) -> None:
        """Let dpkg finish what it was interrupted in. It fails at once while another program installs."""
        self._run("dpkg", "--force-confold", "--configure", "-a", limit=_APT_LIMIT, advice="see /var/log/dpkg.log")

    def install_packages(self, names: Sequence[str]) -> None:
        """Install packages. apt's lists are fetched when they don't know one, or know one that is gone."""
        install = ("install", "--no-install-recommends", *names)
        try:
            self._apt(*install)
        except ProviderError:
            self._apt("update")
            self._apt(*install)
        self._start_time_service(names)

    def _start_time_service(self, names: Sequence[str]) -> None:
        """Start the time service that was installed: certificates need the clock, and the next boot may be far away.

        Nothing waits for it. Where it doesn't fit, as in most containers, systemd leaves it alone without an error.
        """
        units = [clock.DAEMONS[name] for name in map(package_name, names) if name in clock.DAEMONS]
        if units and (self._root / "run/systemd/system").is_dir():
            online = {key: value for key, value in _APT_ENVIRONMENT.items() if key != "SYSTEMD_OFFLINE"}
            arguments = ("start", "--no-block", *units)
            self._run(
                "systemctl", *arguments, limit=_MODPROBE_LIMIT, advice="`systemctl status` says more", env=online
            )

    def _apt(self, *arguments: str) -> None:
        self._run("apt-get", *_APT_OPTIONS, *arguments, limit=_APT_LIMIT, advice="`apt-get update` may say more")

    def _run(
        self, program: str, *arguments: str, limit: int, advice: str, env: Mapping[str, str] = _APT_ENVIRONMENT
    ) -> None:
        try:
            inside = [] if self._root == Path("/") else [tool("chroot"), str(self._root)]
            argv = [*inside, program if inside else tool(program), *arguments]
        except ToolMissingError as error:
            raise ProviderError(f"{program}: {error}") from error
        called = " ".join([program, *(one for one in arguments if one not in _APT_OPTIONS)])
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=env,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ProviderError(f"{called}: no end within {limit} s; is a lock held? `ps` tells") from error
        if done.returncode != 0:
            said = " / ".join(done.stdout.decode(errors="replace").strip().splitlines()[-3:])
            raise ProviderError(f"{called}: exit code {done.returncode}: {said}; {advice}")


def is_root() -> bool:
    """Whether this program may do all that."""
    return os.geteuid() == 0
