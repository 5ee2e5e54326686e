"""cgroup v1 for the containers of a node: a subtree of each of the machine's hierarchies, that ends with the node.

The node's systemd lives on v2, whose controllers a machine with v1 mounts doesn't have. So the node's first process
is put into cgroups of its own (`BEFORE`): they are the roots that its cgroup namespace shows. `SETUP` then makes one
more mount namespace in the node, which has v1 hierarchies at /sys/fs/cgroup, and in which containerd and kubelet run.
What is mounted in the node shows up in it. Its /proc/sys can be written, but for what is the whole machine's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.lab.trial import until

CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd")
_TOP = Path("/sys/fs/cgroup")
_SHARES = 10240
"""The node's part of the processor: that of ten processes. With the default all of a node, API server and etcd
included, has the part of a single process of the machine, and starves beside a busy neighbour."""

BEFORE = f"""
for controller in {" ".join(CONTROLLERS)}; do mkdir -p /sys/fs/cgroup/$controller/$NODE_CGROUP; done
for file in cpuset.cpus cpuset.mems; do
    cat /sys/fs/cgroup/cpuset/$file > /sys/fs/cgroup/cpuset/$NODE_CGROUP/$file
done
echo {_SHARES} > /sys/fs/cgroup/cpu/$NODE_CGROUP/cpu.shares
for controller in {" ".join(CONTROLLERS)}; do echo $$ > /sys/fs/cgroup/$controller/$NODE_CGROUP/cgroup.procs; done
"""

ENTER = "/usr/local/sbin/in-legacy-cgroups"
"""Runs a command in the mount namespace."""
_HOLDER = "/run/legacy/holder"
"""The pid of a process in it. A bind mount would keep it as well, but the kernel refuses half of them: it compares
the ages of two namespaces by numbers that each CPU hands out for itself."""

_INSIDE = f"""
mount -t tmpfs -o mode=755 cgroups /sys/fs/cgroup
for controller in {" ".join(CONTROLLERS[:-1])}; do
    mkdir /sys/fs/cgroup/$controller
    mount -t cgroup -o $controller cgroup /sys/fs/cgroup/$controller
done
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
mount -t proc proc /proc
# kubelet sets these for the whole machine. They are files here.
for line in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \\
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=/run/legacy/$(basename ${{line%=*}})
    echo ${{line#*=}} > $file
    mount --bind $file /proc/sys/${{line%=*}}
done
mount --make-rshared /
touch /run/legacy/ready
exec sleep infinity
"""

SETUP = f"""#!/bin/sh
set -eu
[ -e /dev/kmsg ] || mknod /dev/kmsg c 1 11
mkdir -p /run/legacy
unshare --mount --propagation slave sh -euc '{_INSIDE}' &
until [ -e /run/legacy/ready ]; do kill -0 $! && sleep 0.05; done
echo $! > {_HOLDER}
"""

UNIT = f"""\
[Unit]
DefaultDependencies=no
Before=containerd.service kubelet.service
[Service]
Type=forking
PIDFile={_HOLDER}
ExecStart=/usr/local/sbin/legacy-cgroups
KillMode=process
"""

FILES = {
    "/usr/local/sbin/legacy-cgroups": SETUP,
    "/etc/systemd/system/legacy-cgroups.service": UNIT,
    ENTER: f'#!/bin/sh\nexec nsenter --target "$(cat {_HOLDER})" --mount -- "$@"\n',
}
"""What a node has of it."""


_ADVICE = """
This machine has no cgroup v1 hierarchies {lacking}, on which the kubelet of Kubernetes 1.20.2 runs here.
Debian 12 has them when it boots with systemd.unified_cgroup_hierarchy=0.
What needs no kubelet can be run without: make {target} ARGS="-m 'not kubelet'"
"""


def missing() -> list[str]:
    """The hierarchies that this machine doesn't have."""
    return [one for one in CONTROLLERS if not (_TOP / one / "cgroup.procs").exists()]


def remove(cgroup: str) -> None:
    """Remove what is left of a node's cgroups; the kernel empties them a moment after the last process."""

    def gone() -> bool:
        left = [_TOP / one / cgroup for one in CONTROLLERS if (_TOP / one / cgroup).exists()]
        for one in left:
            removal = ["find", str(one), "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]
            subprocess.run(removal, capture_output=True, check=False, timeout=60)
        return not left

    until(f"the cgroups {cgroup} are gone", gone)


if __name__ == "__main__":
    if lacking := missing():
        sys.exit(_ADVICE.format(lacking=", ".join(lacking), target=sys.argv[1]))
