"""Debian 12's and 13's own cloud-init and systemd judge what we give them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import stock
from tests.lab.documents import blocks
from tests.lab.trial import CHECKOUT

pytestmark = [pytest.mark.root, pytest.mark.slow]

UNITS = "etc/systemd/system"
BOOT = ("multi-user.target", "nodeup.service", "protokube.service")


@pytest.fixture(params=stock.SUITES)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A stock root whose next boot runs cloud-init and our units."""
    with stock.copy_of(request.param, tmp_path / "stock") as root:
        wants = root / UNITS / "multi-user.target.wants"
        for unit in ("nodeup.service", "protokube.service"):
            shutil.copy(CHECKOUT / "systemd" / unit, root / UNITS)
            (wants / unit).symlink_to(f"../{unit}")
            (root / "usr/bin" / unit.removesuffix(".service")).symlink_to("true")
        # As cloud-init's generator does where it finds a cloud.
        (wants / "cloud-init.target").symlink_to("/lib/systemd/system/cloud-init.target")
        yield root


def test_cloud_init_accepts_the_documented_example(root: Path, tmp_path: Path) -> None:
    (config, *_) = blocks("cloud-init.md", "yaml")
    (tmp_path / "node.yaml").write_text(config)
    command = [
        sys.executable,
        "-m",
        "nodeup",
        "--config",
        str(tmp_path / "node.yaml"),
        "--target=cloudinit",
    ]
    with (root / "tmp/user-data").open("w") as file:
        subprocess.run(command, cwd=CHECKOUT, check=True, stdout=file)
    assert "Valid" in stock.inside(root, "cloud-init", "schema", "--config-file", "/tmp/user-data")


def cycles(root: Path) -> str:
    """What systemd says of a boot's transaction, about cycles alone."""
    script = f"systemd-analyze verify --man=no {' '.join(BOOT)} 2>&1 || true"
    said = stock.inside(root, "sh", "-c", script).splitlines()
    return "\n".join(line for line in said if "cycle" in line)


def test_a_boot_has_no_ordering_cycle(root: Path) -> None:
    assert cycles(root) == ""


def test_the_check_would_see_one(root: Path) -> None:
    unit = root / UNITS / "nodeup.service"
    unit.write_text(unit.read_text().replace("After=cloud-config.target", "After=cloud-final.service"))
    assert "ordering cycle" in cycles(root)
