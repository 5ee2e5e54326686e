"""A real Kubernetes below build/kubernetes: its programs, and a containerd that has their images.

    python -m tests.lab.kubernetes build/kubernetes

makes build/kubernetes/containerd, the state of a containerd that holds every image: a node begins with a copy of it,
as a machine does whose image brings them. See .ci/build-kubernetes and .ci/packages-kubernetes for the rest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.lab.container_image import libraries, write_image
from tests.lab.trial import CHECKOUT, ETCD_IMAGE, until

KUBERNETES = Path(os.environ.get("KUBERNETES") or CHECKOUT / "build/kubernetes").resolve()
"""What `make build/kubernetes/made` has made; the demo may name another folder."""
VERSION = "1.20.2"
REGISTRY = "registry.k8s.io"
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
PAUSE_IMAGE = f"{REGISTRY}/pause:3.10"
POD_IMAGE = "example.com/pod-program:1"

_LIB = "usr/lib/x86_64-linux-gnu"
_TABLES = tuple(f"{ip}tables{verb}" for ip in ("ip", "ip6") for verb in ("", "-save", "-restore"))

CONTAINERD = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  # The machine that the tests run on may not raise limits (CAP_SYS_RESOURCE).
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "/usr/sbin/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
"""


def image(component: str) -> str:
    """The image of a component of the control plane."""
    return f"{REGISTRY}/{component}:v{VERSION}"


def program(name: str) -> Path:
    """A program that was built, or unpacked."""
    for folder in (KUBERNETES / "bin", KUBERNETES / "root/usr/bin", KUBERNETES / "root/usr/sbin"):
        if (folder / name).exists():
            return folder / name
    raise AssertionError(f"{name} is missing below {KUBERNETES}: make build/kubernetes/made")


def copy_containerd(into: Path) -> None:
    """Begin a node's containerd: layers and blobs, which nobody changes, are linked, and its databases copied."""
    subprocess.run(["cp", "-al", f"{KUBERNETES / 'containerd'}/.", into], check=True, timeout=120)
    for database in into.rglob("*.db"):
        content = database.read_bytes()
        database.unlink()
        database.write_bytes(content)


def _images(into: Path) -> None:
    """Write every image's archive."""
    pod = program("pod-program")
    for component in COMPONENTS[:3]:
        files = {f"/usr/local/bin/{component}": program(component)}
        write_image(into / f"{component}.tar", image(component), files, [component])
    write_image(into / "kube-proxy.tar", image("kube-proxy"), _proxy(), ["kube-proxy"])
    etcd = Path("/usr/bin/etcd")
    etcd_files = {"/usr/local/bin/etcd": etcd, **_with_libraries(etcd)}
    write_image(into / "etcd.tar", ETCD_IMAGE, etcd_files, ["etcd"])
    write_image(into / "pause.tar", PAUSE_IMAGE, {"/pause": pod}, ["/pause"])
    write_image(into / "pod.tar", POD_IMAGE, {"/usr/local/bin/pod-program": pod}, ["pod-program"])


def _proxy() -> Mapping[str, Path | str]:
    """kube-proxy runs iptables, by the kernel's older interface, and conntrack."""
    tables, conntrack = program("xtables-legacy-multi"), program("conntrack")
    files: dict[str, Path | str] = {
        "/usr/local/bin/kube-proxy": program("kube-proxy"),
        "/usr/sbin/xtables-legacy-multi": tables,
        "/usr/sbin/conntrack": conntrack,
        **{f"/usr/sbin/{name}": "xtables-legacy-multi" for name in _TABLES},
        **_with_libraries(tables),
        **_with_libraries(conntrack),
    }
    for plugin in (KUBERNETES / "root" / _LIB / "xtables").glob("lib*.so"):
        files |= {f"/{_LIB}/xtables/{plugin.name}": plugin, **_with_libraries(plugin)}
    return files


def _with_libraries(one: Path) -> Mapping[str, Path]:
    unpacked = KUBERNETES / "root"
    found = {}
    for library in libraries(one, unpacked / _LIB):
        inside = Path("/", library.relative_to(unpacked)) if library.is_relative_to(unpacked) else library
        found[str(inside)] = library.resolve()
    return found


def _prepare(folder: Path) -> None:
    """Let a containerd take in every image, and keep its state."""
    shutil.rmtree(folder / "containerd", ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        images, socket = Path(work, "images"), Path(work, "c.sock")
        images.mkdir()
        _images(images)
        (Path(work) / "config.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        command = [str(program("containerd")), "-c", f"{work}/config.toml", "--root", f"{work}/root"]
        command += ["--state", f"{work}/state", "--address", str(socket)]
        environment = {"PATH": f"{program('containerd').parent}:{os.environ['PATH']}"}
        with Path(work, "log").open("wb") as log:
            process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", *command], stdout=log, stderr=log, env=environment
            )
            try:
                ctr: list[str | Path] = [program("ctr"), "--address", str(socket), "--namespace", "k8s.io"]
                answers = [*ctr, "version"]
                until("containerd answers", lambda: not subprocess.run(answers, capture_output=True).returncode)
                for archive in sorted(images.iterdir()):
                    subprocess.run([*ctr, "images", "import", archive], check=True, capture_output=True, timeout=300)
            finally:
                process.terminate()
                process.wait(60)
        Path(work, "root").rename(folder / "containerd")


if __name__ == "__main__":
    _prepare(Path(sys.argv[1]).resolve())
