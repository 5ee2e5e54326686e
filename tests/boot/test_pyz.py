"""protokube.pyz on a stock Debian 12 and 13, where Python has nothing but its standard library."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube import __version__
from tests.lab import stock
from tests.lab.trial import CHECKOUT, both, write_inventory

pytestmark = [pytest.mark.root, pytest.mark.slow]

PYZ = CHECKOUT / "build/protokube.pyz"
EVERYTHING = """
import pkgutil, sys, importlib, importlib.util, os
tree = next(os.path.join("/var/cache/protokube", one) for one in os.listdir("/var/cache/protokube") if len(one) == 16)
sys.path.insert(0, tree)
for package in ("protokube", "nodeup"):
    for module in pkgutil.walk_packages([f"{tree}/{package}"], f"{package}."):
        if not module.name.endswith(("__main__", "fetch_program")):
            importlib.import_module(module.name)
from protokube.awsclient import SERVICES, client
os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
print(*(client(service, "eu-central-1").meta.service_model.service_name for service in SERVICES))
import yaml, msgspec._core, cryptography.x509, rich.progress
print(yaml.__with_libyaml__)
"""


@pytest.fixture(scope="module", params=stock.SUITES)
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A stock root with the program, without the Python packages that came with cloud-init."""
    with stock.copy_of(request.param, tmp_path_factory.mktemp("stock")) as root:
        shutil.copy(PYZ, root / "usr/bin/protokube")
        (root / "usr/bin/nodeup").symlink_to("protokube")
        packages = root / "usr/lib/python3/dist-packages"
        subprocess.run(["mount", "-t", "tmpfs", "none", packages], check=True)
        yield root


def test_both_programs_start(root: Path) -> None:
    assert stock.inside(root, "protokube", "--version") == f"protokube {__version__}\n"
    assert stock.inside(root, "nodeup", "--version") == f"nodeup {__version__}\n"


def test_nothing_is_missing_that_any_module_imports(root: Path) -> None:
    stock.inside(root, "protokube", "--version")
    said = stock.inside(root, "python3", "-IS", "-c", EVERYTHING).splitlines()
    assert said[0].split()[:2] == ["ec2", "route53"]
    assert said[1:] == ["True"]


def test_a_dry_run_tells_of_a_whole_node(root: Path, tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, *both())
    shutil.copy(inventory, root / "etc/inventory.yaml")
    options = ("--cloud=local", "--inventory=/etc/inventory.yaml", "--node=node-a", "--master", "--dry-run")
    said = stock.inside(root, "protokube", *options, "--root=/srv")
    assert "main-a" in said and "events-a" in said and "kubelet" in said


def test_two_builds_are_the_same_byte_for_byte() -> None:
    """The second is built with another time zone, umask and hash seed, before the tests lose the network."""
    assert (CHECKOUT / "build/again/protokube.pyz").read_bytes() == PYZ.read_bytes()
