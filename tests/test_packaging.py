"""The wheel is complete: it carries templates and units, and runs from where it was installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from protokube import __version__
from protokube.config.templates import shipped

CHECKOUT = Path(__file__).parents[1]
SHIPPED = {
    "templates/etcd": {"manifest.yaml", "main.yaml", "events.yaml"},
    "systemd": {
        "protokube.service",
        "kubelet.service",
        "nodeup.service",
        "containerd.service",
        "ssh-host-keys.service",
        "virtual-kubelet.service",
        "nokubelet.service",
        "protokube-hub.service",
        "kubeleet-worker.service",
        "kubeleet-scheduler.service",
        "kubeleet-service.service",
    },
}

ASK_INSTALLED = """
import pathlib, protokube
from protokube.config.templates import load_templates, shipped
faults = []
print(protokube.__file__, sorted(load_templates(None, faults)), faults)
print(sorted(entry.name for entry in shipped("systemd").iterdir()))
"""


def run(*argv: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(one) for one in argv], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by hatchling itself, as pip would call it, without pip and its index."""
    out = tmp_path_factory.mktemp("wheel")
    build = f"import hatchling.build; print(hatchling.build.build_wheel({str(out)!r}))"
    name = run(sys.executable, "-c", build, cwd=CHECKOUT).split()[-1]
    return out / name


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a fresh environment with the wheel in it; dependencies are this environment's."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", folder / "bin/python")
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    theirs = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(theirs), encoding="utf-8")
    return folder / "bin"


@pytest.mark.parametrize("folder", SHIPPED)
def test_the_wheel_carries(folder: str, wheel: Path) -> None:
    prefix = f"protokube/{folder}/"
    with zipfile.ZipFile(wheel) as archive:
        names = {name.removeprefix(prefix) for name in archive.namelist() if name.startswith(prefix)}
        assert names >= SHIPPED[folder]
        for name in SHIPPED[folder]:
            assert archive.read(prefix + name) == (CHECKOUT / folder / name).read_bytes()


def test_the_wheel_carries_the_program_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert tops == {"protokube", "nodeup", f"protokube-{__version__}.dist-info"}


def test_the_installed_command_knows_its_version(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "protokube", "--version", cwd=tmp_path) == f"protokube {__version__}\n"


def test_the_installed_program_finds_what_ships_with_it(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "python", "-c", ASK_INSTALLED, cwd=tmp_path)
    assert said.startswith(str(installed.parent)), "it runs from the checkout instead"
    assert "['events', 'main'] []" in said
    assert str(sorted(SHIPPED["systemd"])) in said


@pytest.mark.parametrize("folder", SHIPPED)
def test_a_checkout_finds_what_ships_with_it(folder: str) -> None:
    top, _, rest = folder.partition("/")
    found = shipped(top).joinpath(rest) if rest else shipped(top)
    assert {entry.name for entry in found.iterdir()} >= SHIPPED[folder]
