"""The Debian that tests make images of: minimal, by debootstrap, with what a node needs beside our programs.

python -m tests.lab.image_root build/image
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab.vm import mirror

PACKAGES = """systemd systemd-sysv dbus udev e2fsprogs iproute2 python3 util-linux kmod mount
openssh-server containerd containernetworking-plugins systemd-timesyncd"""
SUITE = "bookworm"


def fetch(folder: Path) -> None:
    """Get it, as `root`. Takes a minute and a network."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES.split())}"]
    subprocess.run([*command, SUITE, str(folder / "root"), *mirror()], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
