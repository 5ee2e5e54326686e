"""podman in a node without a registry and without the rights that it would like to have.

Debian 12's podman 4.3.1 and crun, on a kernel whose cgroup v2 hierarchy holds next to no controllers: crun makes no
cgroups, and no ulimit is raised. Such a node needs `delegate=True` and `seccomp=False`.
"""

from __future__ import annotations

from tests.lab.systemd_node import SystemdNode

PODMAN_FILES = {
    "/etc/containers/containers.conf": """[containers]
pids_limit=0
default_ulimits=[]
log_driver="k8s-file"
keyring=false
[engine]
cgroup_manager="cgroupfs"
events_logger="file"
runtime="crun"
[engine.runtimes]
crun=["/usr/local/bin/crun-nocg"]
""",
    "/etc/containers/storage.conf": """[storage]
driver="overlay"
graphroot="/run/containers/storage"
runroot="/run/containers/run"
""",
    "/usr/local/bin/crun-nocg": '#!/bin/sh\nexec /usr/bin/crun --cgroup-manager=disabled "$@"\n',
    "/etc/containers/policy.json": '{"default":[{"type":"insecureAcceptAnything"}]}',
    "/etc/containers/registries.conf": "unqualified-search-registries=[]\n",
    "/etc/sysconfig/virtual-kubelet": 'VIRTUAL_KUBELET_OPTIONS="--provider podman"\n',
}

_MAKE = r"""
image=$1; shift
root=/run/image-root; rm -rf $root; mkdir -p $root/bin $root/etc $root/tmp $root/var
echo root:x:0:0:root:/:/bin/sh >$root/etc/passwd
for program; do
    cp -L "$program" $root/bin/
    for library in $(ldd "$program" | grep -o '/[^ :]*'); do
        mkdir -p "$root/$(dirname "$library")"; cp -L "$library" "$root/$library"
    done
done
tar -C $root -c . | podman import --quiet --change 'ENV PATH=/bin' - "$image"
"""


def make_image(node: SystemdNode, image: str, *programs: str) -> None:
    """Make an image of some of the machine's programs."""
    node.run("bash", "-euc", _MAKE, "make", image, *programs)
