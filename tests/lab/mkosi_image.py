"""A machine's tree as mkosi builds it, by the example of docs/image-builds.md.

    python -m tests.lab.mkosi_image build/mkosi      # needs a mirror, root, and build/protokube.pyz; minutes

mkosi itself is unpacked from Debian 13 into that folder before: Debian 12's needs a running systemd.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.lab.documents import blocks
from tests.lab.first_boot import KUBELET
from tests.lab.trial import CHECKOUT
from tests.lab.vm import mirror

PAGE = "image-builds.md"
IMAGE = CHECKOUT / "build/mkosi/tree"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


def documented(files: Path, where: str, *, package: bool = False) -> dict[str, Any]:
    """The page's configuration, with a directory as its mirror. `package`: the .deb has brought the program."""
    config: dict[str, Any] = yaml.safe_load(blocks(PAGE, "yaml")[0])
    for asset in config["assets"]:
        name = asset["urls"][0].rpartition("/")[2]
        asset["sha256"] = hashlib.sha256((files / name).read_bytes()).hexdigest()
        asset["urls"] = [f"file://{where}/{name}"]
    if package:
        del config["assets"][:2]
    return config


def build(folder: Path) -> None:
    """Build the tree below the folder, into `tree`."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    sources = work / "mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources"
    sources.parent.mkdir(parents=True)
    (work / "mirror").mkdir()
    (debian, *_) = [*mirror(), "http://deb.debian.org/debian"]
    # One mirror serves all that is wanted; mkosi's own list has two more.
    sources.write_text(f"Types: deb\nURIs: {debian}\nSuites: bookworm\nComponents: main\nSigned-By: {KEYS}\n")
    for name in ("nodeup", "mirror/protokube.pyz"):
        shutil.copy(CHECKOUT / "build/protokube.pyz", work / name)
    (work / "nodeup").chmod(0o755)
    (work / "mirror/kubelet").write_text(KUBELET)
    # mkosi(1), SRCDIR: its scripts see the folder under this path of its sandbox, on every machine.
    (work / "image.yaml").write_text(json.dumps(documented(work / "mirror", "/work/src/mirror")))
    (work / "mkosi.conf").write_text(blocks(PAGE, "ini")[0])
    finalize = work / "mkosi.finalize"
    finalize.write_text(blocks(PAGE, "sh")[1])
    finalize.chmod(0o755)
    unpacked = folder.resolve() / "root/usr"
    environment = {
        **os.environ,
        "PATH": f"{unpacked}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": str(unpacked / "lib/python3/dist-packages"),
    }
    private = ["unshare", "--mount", "--propagation", "private"]
    subprocess.run(
        [*private, "/usr/bin/python3", "-m", "mkosi", "--force", "build"], cwd=work, env=environment, check=True
    )
    shutil.rmtree(folder / "tree", ignore_errors=True)
    (work / "image").rename(folder / "tree")
    shutil.rmtree(work)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
