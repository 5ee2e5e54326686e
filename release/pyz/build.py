"""Build protokube.pyz: what `pip install` would put on a machine, less what no start reads, packed and reproducible.

    python -m release.pyz build/protokube.pyz

Python's own zipapp makes the archive. Needs binutils' strip. Wheels come from pip's package index, in the releases
that requirements.lock pins.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipapp
import zipfile
from pathlib import Path

from protokube.awsclient import MODELS, SERVICES
from release.pyz.launcher import IDENTITY, PAYLOAD, PYTHONS

CHECKOUT = Path(__file__).parents[2]
INTERPRETER = "/usr/bin/python3 -IS"
"""Without the user's environment and packages, and without the machine's."""
WHEELS = ("manylinux_2_28", "manylinux_2_17", "manylinux_2_12", "manylinux_2_5")
"""Debian 12 has glibc 2.36."""
EPOCH = 1_577_836_800
"""The time of every file, 2020-01-01: a zip knows none before 1980."""

UNUSED_PACKAGES = (
    "protokube/agent",
    "protokube/hub",
    "protokube/kubeleet",
    "bin",
    "cffi",
    "markdown_it",
    "mdurl",
    "pycparser",
    "pygments",
)
"""The agent, the hub and kubeleet need more than is here. cryptography needs the compiled half of cffi alone, and
rich's progress bars neither Markdown nor highlighting."""
UNUSED_FILES = ("*.dist-info", "*.pyi", "py.typed", "__pycache__", "tests")
BOTOCORE_DATA = ("_retry.json", "partitions.json", "sdk-default-configuration.json")
BOTOCORE_SERVICE_DATA = ("service-2.json.gz", "endpoint-rule-set-1.json.gz")


def build(target: Path) -> None:
    """Write the archive."""
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work, "program")
        for python in PYTHONS:
            _install(tree, python)
        _add_ourselves(tree, Path(work))
        trim(tree)
        payload = pack(tree)
        app = Path(work, "app")
        app.mkdir()
        shutil.copyfile(Path(__file__).with_name("start.py"), app / "__main__.py")
        shutil.copyfile(Path(__file__).with_name("launcher.py"), app / "launcher.py")
        (app / PAYLOAD).write_bytes(payload)
        (app / IDENTITY).write_text(hashlib.sha256(payload).hexdigest()[:16])
        local = time.mktime((2020, 1, 1, 0, 0, 0, 0, 0, -1))  # a zip holds local time: the same in every zone
        for path in app.iterdir():
            os.utime(path, (local, local))
            path.chmod(0o644)
        target.parent.mkdir(parents=True, exist_ok=True)
        zipapp.create_archive(app, target, INTERPRETER)


def _install(tree: Path, python: tuple[int, int]) -> None:
    """Add the dependencies for one Python. Only compiled modules differ, and they are named after its version."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "install"]
    command += [
        "--no-compile",
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={python[0]}.{python[1]}",
    ]
    command += [f"--platform={one}_{os.uname().machine}" for one in WHEELS]
    with tempfile.TemporaryDirectory() as fresh:
        command += [f"--constraint={CHECKOUT / 'requirements.lock'}", f"--target={fresh}"]
        subprocess.run([*command, *project["dependencies"]], check=True)
        shutil.copytree(fresh, tree, dirs_exist_ok=True)


def _add_ourselves(tree: Path, work: Path) -> None:
    wheel = f"import hatchling.build; print(hatchling.build.build_wheel({str(work)!r}))"
    done = subprocess.run([sys.executable, "-c", wheel], cwd=CHECKOUT, check=True, capture_output=True, text=True)
    with zipfile.ZipFile(work / done.stdout.split()[-1]) as archive:
        archive.extractall(tree)


def trim(tree: Path) -> None:
    """Remove what no start reads."""
    unused = [tree / name for name in UNUSED_PACKAGES]
    unused += [path for pattern in UNUSED_FILES for path in tree.rglob(pattern)]
    unused += [path for path in (tree / "botocore/data").iterdir() if path.name not in {*BOTOCORE_DATA, *SERVICES}]
    for service in SERVICES:
        *older, newest = sorted((tree / "botocore/data" / service).iterdir())
        ours = (MODELS / service).exists()
        used = BOTOCORE_SERVICE_DATA[1:] if ours else BOTOCORE_SERVICE_DATA
        unused += [*older, *(path for path in newest.iterdir() if path.name not in used)]
    for path in unused:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    subprocess.run(["strip", "--strip-unneeded", *tree.rglob("*.so")], check=True)


def pack(tree: Path) -> bytes:
    """A tree as tar.xz, the same bytes for the same files: no owner, time, mode or order of this machine is in it."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(tree.rglob("*")):
            entry = tarfile.TarInfo(str(path.relative_to(tree)))
            entry.mtime = EPOCH
            if path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            else:
                content = path.read_bytes()
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9}]
    return lzma.compress(plain.getvalue(), filters=filters)
