"""Stock Debian 12 and 13 roots with cloud-init, as a cloud's image holds them: the machines of the boot tests.

    python -m tests.lab.stock build/boot     # bookworm and trixie below it; minutes and a mirror, only once

A test never writes to them: it works on an overlay (see `copy_of`). Needs root and mmdebstrap.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.vm import mirror

ROOTS = Path(__file__).parents[2] / "build/boot"
SUITES = ("bookworm", "trixie")
_PACKAGES = """systemd systemd-sysv dbus udev e2fsprogs iproute2 python3 util-linux kmod mount ca-certificates
cloud-init containerd containernetworking-plugins systemd-timesyncd openssh-server"""
_KERNEL = "linux-image-cloud-amd64"


def fetch(folder: Path) -> None:
    """Get both roots; one that is whole is kept. The one that boots in a virtual machine has a kernel."""
    folder.mkdir(parents=True, exist_ok=True)
    for suite in SUITES:
        root = folder / suite
        if root.exists():
            continue
        packages = [*_PACKAGES.split(), *([_KERNEL] if suite == SUITES[0] else [])]
        command = ["mmdebstrap", "--quiet", "--variant=minbase", '--aptopt=APT::Sandbox::User "root"']
        command += [f"--include={','.join(packages)}", suite, str(folder / f"{suite}.part"), *mirror()]
        subprocess.run(["rm", "-rf", folder / f"{suite}.part"], check=True)
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        (folder / f"{suite}.part").rename(root)


@contextmanager
def copy_of(suite: str, work: Path) -> Iterator[Path]:
    """A root to write to, which costs nothing: an overlay in memory, for as long as the context lives."""
    lower = ROOTS / suite
    assert lower.exists(), "`make test-boot` fetches the machines"
    work.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "stock", work], check=True)
    try:
        for name in ("upper", "work", "root"):
            (work / name).mkdir()
        layers = f"lowerdir={lower},upperdir={work}/upper,workdir={work}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, work / "root"], check=True)
        yield work / "root"
    finally:
        subprocess.run(["umount", "-R", "-l", work], check=True)


def inside(root: Path, *command: str) -> str:
    """Run a command in a root, with nothing of this machine but /dev and /proc; what it printed."""
    setup = 'mount -t proc proc "$0/proc" && mount --bind /dev "$0/dev" && exec chroot "$0" "$@"'
    argv = ["unshare", "--mount", "--propagation", "private", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    done = subprocess.run([*argv, "sh", "-c", setup, root, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: exit {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
