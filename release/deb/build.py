"""Build the Debian package from protokube.pyz: the same program, unpacked, with its units.

    python -m release.deb build/protokube.pyz build

No debhelper: dh-python would take the libraries from Debian, which has some too old and some not at all, and
dh-virtualenv's environment is for one Python; this package serves Debian 12 and 13. What is left is a tree for
dpkg-deb. The package starts and enables nothing: nodeup does, and it leaves kubelet to protokube.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

from protokube import __version__
from release.pyz.build import CHECKOUT, EPOCH
from release.pyz.launcher import PAYLOAD

HERE = Path(__file__).parent
PROGRAM = "usr/lib/protokube"
UNITS = ("nodeup.service", "protokube.service")
"""kubelet.service is left to kubelet's own package; nodeup writes it where there is none."""
_COMMAND = """\
#!/usr/bin/python3 -IS
import sys

sys.path.insert(0, "/{program}")
from {name}.__main__ import main

sys.exit(main())
"""
_CHANGELOG = """\
protokube ({version}) unstable; urgency=medium

  * New upstream release; its CHANGELOG.md tells the changes.

 -- protokube maintainers <maintainers@protokube.example.org>  Wed, 01 Jan 2020 00:00:00 +0000
"""


def build(pyz: Path, folder: Path) -> Path:
    """Write the package into a folder; its path."""
    architecture = _output("dpkg", "--print-architecture").strip()
    target = folder / f"protokube_{__version__}_{architecture}.deb"
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work, "tree")
        _unpack(pyz, tree / PROGRAM)
        for name in ("protokube", "nodeup"):
            _write(tree / f"usr/bin/{name}", _COMMAND.format(program=PROGRAM, name=name), 0o755)
        for unit in UNITS:
            _write(tree / f"usr/lib/systemd/system/{unit}", (CHECKOUT / "systemd" / unit).read_text())
        documents = tree / "usr/share/doc/protokube"
        _write(documents / "copyright", (HERE / "copyright").read_text())
        changelog = gzip.compress(_CHANGELOG.format(version=__version__).encode(), 9, mtime=0)
        _write(documents / "changelog.gz", changelog)
        _write(tree / "usr/share/lintian/overrides/protokube", (HERE / "lintian-overrides").read_text())
        size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()) // 1024
        control = (HERE / "control").read_text().format(version=__version__, architecture=architecture, size=size)
        _write(tree / "DEBIAN/control", control)
        for script in ("postinst", "prerm"):
            _write(tree / "DEBIAN" / script, (HERE / script).read_text(), 0o755)
        _write(tree / "DEBIAN/md5sums", _sums(tree))
        _settle(tree)
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(tree), str(target)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return target


def _unpack(pyz: Path, tree: Path) -> None:
    tree.mkdir(parents=True)
    with zipfile.ZipFile(pyz) as archive, tarfile.open(fileobj=io.BytesIO(archive.read(PAYLOAD))) as payload:
        payload.extractall(tree, filter="data")


def _write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)


def _sums(tree: Path) -> str:
    files = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    return _output("md5sum", *(file for file in files if not file.startswith("DEBIAN/")), cwd=tree)


def _settle(tree: Path) -> None:
    """Modes and times that are the same on every machine."""
    for path in sorted(tree.rglob("*"), reverse=True):
        if path.is_dir():
            path.chmod(0o755)
        elif not path.is_relative_to(tree / "DEBIAN") and not path.is_relative_to(tree / "usr/bin"):
            path.chmod(0o644)
        os.utime(path, (EPOCH, EPOCH))
    tree.chmod(0o755)
    os.utime(tree, (EPOCH, EPOCH))


def _output(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout
