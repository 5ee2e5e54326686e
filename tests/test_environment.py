"""The tests run in any folder, beside a busy neighbour, and with the packages that stand in requirements.lock."""

from __future__ import annotations

import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from hypothesis import settings
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.lab import inside, systemd_node
from tests.lab.systemd_node import MACHINE_CHECKOUT, SystemdNode

PYPROJECT = tomllib.loads((MACHINE_CHECKOUT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
LOCK = MACHINE_CHECKOUT / "requirements.lock"


def declared() -> list[Requirement]:
    """What pyproject.toml asks for: to build, to run, and for every extra."""
    asked = [*PYPROJECT["build-system"]["requires"], *PYPROJECT["project"]["dependencies"]]
    everything = [Requirement(one) for one in (*asked, *(one for extra in EXTRAS.values() for one in extra))]
    return [one for one in everything if one.name != PYPROJECT["project"]["name"]]  # an extra may hold another one


def pinned() -> dict[str, str]:
    """Package → version."""
    lines = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    assert all(len(pair) == 2 for pair in pairs), lines
    return {canonicalize_name(name): version for name, version in pairs}


def needed() -> list[Requirement]:
    """What is declared, and what that asks for in its turn, on this Python."""
    found, seen = [], set()
    waiting = declared()
    while waiting:
        one = waiting.pop()
        found.append(one)
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in seen:
            continue
        seen.add(key)
        for text in distribution(one.name).requires or ():
            theirs = Requirement(text)
            if theirs.marker is None or any(theirs.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)):
                waiting.append(theirs)
    return found


def test_every_declared_package_is_bounded_above() -> None:
    open_ended = [str(one) for one in declared() if not any(part.operator in ("<", "==") for part in one.specifier)]
    assert open_ended == []


def test_every_needed_package_is_pinned_within_its_bounds() -> None:
    """Else `make lock` mends it."""
    pins = pinned()
    versions = {one: pins.get(canonicalize_name(one.name), "none") for one in needed()}
    assert [str(one) for one, version in versions.items() if version == "none"] == []
    assert [(str(one), version) for one, version in versions.items() if version not in one.specifier] == []


def test_setup_installs_what_is_pinned() -> None:
    """A `.venv` that differs was not made by `make setup`."""
    pins = pinned()
    names = {canonicalize_name(one.name) for one in needed()}
    assert {name: distribution(name).version for name in names} == {name: pins[name] for name in names}


def test_no_property_has_a_deadline() -> None:
    assert settings().deadline is None


@pytest.mark.root
@pytest.mark.parametrize("name", ["plain", "a path", "ä", "a:b", "a\\b"])
def test_a_node_finds_the_checkout_wherever_it_stands(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "mark").write_text("this one")
    monkeypatch.setattr(systemd_node, "MACHINE_CHECKOUT", folder)
    with SystemdNode(tmp_path / "node") as node:
        assert node.run("cat", f"{inside.CHECKOUT}/mark").stdout == "this one"
        node.run(inside.PYTHON, "-c", "import msgspec")
        assert "Read-only" in node.run("touch", f"{inside.CHECKOUT}/other", check=False).stderr
    assert [path.name for path in folder.iterdir()] == ["mark"]


@pytest.mark.root
def test_a_node_has_the_checkout_at_no_path_of_the_machine(tmp_path: Path) -> None:
    """Else a test could use one that isn't there below /tmp or on another filesystem, and pass here alone."""
    program = "import protokube; print(protokube.__file__)"
    with SystemdNode(tmp_path) as node:
        assert not node.path(str(MACHINE_CHECKOUT / "pyproject.toml")).exists()
        said = node.run("env", f"PYTHONPATH={inside.CHECKOUT}", inside.PYTHON, "-c", program).stdout
    assert said == f"{inside.CHECKOUT}/protokube/__init__.py\n"
