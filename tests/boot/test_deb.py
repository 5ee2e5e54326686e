"""The Debian package on a stock Debian 12 and 13: installed by dpkg, complete, and quiet."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube import __version__
from release.deb.build import build
from tests.lab import stock
from tests.lab.trial import CHECKOUT

pytestmark = [pytest.mark.root, pytest.mark.slow]

DEB = (CHECKOUT / "build/protokube.deb").resolve()


@pytest.fixture(scope="module", params=stock.SUITES)
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with stock.copy_of(request.param, tmp_path_factory.mktemp("stock")) as root:
        shutil.copy(DEB, root / "tmp/protokube.deb")
        stock.inside(root, "dpkg", "--install", "/tmp/protokube.deb")
        yield root


def test_both_programs_run_with_compiled_modules(root: Path) -> None:
    assert stock.inside(root, "protokube", "--version") == f"protokube {__version__}\n"
    assert stock.inside(root, "nodeup", "--version") == f"nodeup {__version__}\n"
    assert list((root / "usr/lib/protokube/protokube/__pycache__").glob("cli.*.pyc"))


def test_it_brings_units_and_enables_none(root: Path) -> None:
    for unit in ("nodeup", "protokube"):
        asked = stock.inside(root, "sh", "-c", f"systemctl is-enabled {unit}.service || true")
        assert asked == "disabled\n"
    assert not (root / "usr/lib/systemd/system/kubelet.service").exists(), "it is in kubelet's own package"


def test_every_file_is_as_it_was_packed(root: Path) -> None:
    assert stock.inside(root, "dpkg", "--verify", "protokube") == ""


def everything(root: Path) -> set[Path]:
    """What is in a root, but for dpkg's own and apt's logs and /tmp."""
    return {path.relative_to(root) for path in root.rglob("*") if not {"dpkg", "log", "tmp"} & set(path.parts[-3:])}


def test_removed_it_leaves_nothing(tmp_path: Path) -> None:
    with stock.copy_of("bookworm", tmp_path / "stock") as root:
        before = everything(root)
        shutil.copy(DEB, root / "tmp/protokube.deb")
        stock.inside(root, "dpkg", "--install", "/tmp/protokube.deb")
        stock.inside(root, "protokube", "--version")
        assert Path("usr/bin/nodeup") in everything(root) - before
        stock.inside(root, "dpkg", "--purge", "protokube")
        assert everything(root) - before == set()


def test_lintian_finds_no_error() -> None:
    done = subprocess.run(
        ["lintian", "--fail-on=error", "--allow-root", DEB], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_builds_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    assert build(CHECKOUT / "build/protokube.pyz", tmp_path).read_bytes() == DEB.read_bytes()
