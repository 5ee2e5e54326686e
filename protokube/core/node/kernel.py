"""Kernel modules and sysctls: those that kubelet and containerd demand, with the reason for each, and no more.

Sources: kubelet's protectKernelDefaults (pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables), kubeadm's
preflight checks, containerd's overlayfs snapshotter, and the bridge plugin of CNI.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

MODULES_PATH = "/etc/modules-load.d/protokube.conf"
SYSCTLS_PATH = "/etc/sysctl.d/90-protokube.conf"

MODULES: Mapping[str, str] = {
    "overlay": "containerd lays image layers over one another",
    "br_netfilter": "the kernel has net.bridge.* only with it",
}

SYSCTLS: Mapping[str, tuple[str, str]] = {
    "net.ipv4.ip_forward": ("1", "pods reach other machines through this one"),
    "net.bridge.bridge-nf-call-iptables": ("1", "Services work between pods on one bridge"),
    "net.bridge.bridge-nf-call-ip6tables": ("1", "the same for IPv6"),
    "vm.overcommit_memory": ("1", "kubelet demands it (protectKernelDefaults)"),
    "vm.panic_on_oom": ("0", "kubelet demands it: the kernel ends a process, not the machine"),
    "kernel.panic": ("10", "kubelet demands it: boot again 10 s after a panic"),
    "kernel.panic_on_oops": ("1", "kubelet demands it: a broken kernel must not go on serving"),
    "kernel.keys.root_maxkeys": ("1000000", "kubelet demands it: each container has a keyring"),
    "kernel.keys.root_maxbytes": ("25000000", "kubelet demands it: 25 bytes for each of these keys"),
    "fs.inotify.max_user_instances": ("8192", "kubelet and containerd's shims use up the default of 128"),
}

_HEAD = "# Written by nodeup, which replaces it whenever it changes.\n"


def modules(extra: Iterable[str]) -> dict[str, str]:
    """Every wanted module, with its reason. The kernel spells all of them with underscores."""
    named = (name.replace("-", "_") for name in extra)
    return {**MODULES, **{name: "the configuration lists it" for name in named if name not in MODULES}}


def sysctls(extra: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Every wanted sysctl, with its value and reason; the configuration's values replace ours."""
    mine = {dotted(key): (value, "the configuration says so") for key, value in extra.items()}
    return {**SYSCTLS, **mine}


def dotted(key: str) -> str:
    """A sysctl's one spelling. sysctl.d(5): whichever of `.` and `/` comes first separates; the other is a letter."""
    slash, dot = key.find("/"), key.find(".")
    if slash >= 0 and (dot < 0 or slash < dot):
        return key.translate(str.maketrans("/.", "./"))
    return key


def sysctl_path(key: str) -> str:
    """Where the kernel shows a sysctl, below /proc/sys."""
    return key.translate(str.maketrans("./", "/."))


def module_of(key: str) -> str | None:
    """The module without which the kernel doesn't have a sysctl, where there is one."""
    return "br_netfilter" if key.startswith("net.bridge.") else None


def same_value(one: str, other: str) -> bool:
    """Whether two texts are one value: the kernel separates several numbers by tabs."""
    return one.split() == other.split()


def modules_file(wanted: Mapping[str, str]) -> str:
    """modules-load.d(5). systemd-sysctl.service comes after systemd-modules-load.service, so net.bridge.* exist."""
    return _HEAD + "".join(f"# {reason}\n{name}\n" for name, reason in wanted.items())


def sysctls_file(wanted: Mapping[str, tuple[str, str]]) -> str:
    """sysctl.d(5)."""
    return _HEAD + "".join(f"# {reason}\n{key} = {value}\n" for key, (value, reason) in wanted.items())
