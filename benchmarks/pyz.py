"""protokube.pyz beside the same program installed in an environment, as pip would: CPU of a start, alternating."""

from __future__ import annotations

import compileall
import io
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

from release.pyz.launcher import PAYLOAD
from tests.lab.trial import CHECKOUT

PYZ = CHECKOUT / "build/protokube.pyz"
RUNS = 25


def main() -> None:
    """Print both starts and their ratio. `make pyz` comes first."""
    with tempfile.TemporaryDirectory(prefix="protokube-bench-") as folder:
        environment = {"PATH": os.environ["PATH"], "PROTOKUBE_CACHE": f"{folder}/cache"}
        python = str(Path(sys.base_prefix, "bin/python3"))
        pyz = [python, "-IS", str(PYZ), "--version"]
        first = _cpu(pyz, environment)
        installed = [str(_installed(Path(folder, "installed"))), "--version"]
        programs = {"installed": installed, "pyz": pyz}
        rows: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(RUNS):
            for name, command in programs.items():
                rows[name].append(_cpu(command, environment))
    medians = {name: statistics.median(values) for name, values in rows.items()}
    print(f"size                        {PYZ.stat().st_size / 1e6:6.2f} MB")
    print(f"first start, CPU            {first:6.3f} s")
    for name, values in rows.items():
        print(f"{name:10} start, CPU       {medians[name]:6.3f} s  (min {min(values):.3f}, max {max(values):.3f})")
    print(f"ratio                       {medians['pyz'] / medians['installed']:6.2f}")


def _installed(folder: Path) -> Path:
    """An environment as `python3 -m venv` makes it, with the archive's files in its site-packages; its command."""
    venv.create(folder, symlinks=True, with_pip=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    with zipfile.ZipFile(PYZ) as archive, tarfile.open(fileobj=io.BytesIO(archive.read(PAYLOAD))) as payload:
        payload.extractall(packages, filter="data")
    compileall.compile_dir(packages, quiet=1)
    command = folder / "bin/protokube"
    # pip writes all commands alike, its own as well.
    command.write_text((folder / "bin/pip").read_text().replace("pip._internal.cli.main", "protokube.__main__"))
    command.chmod(0o755)
    return command


def _cpu(command: list[str], environment: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
