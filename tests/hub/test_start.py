"""The installed commands: each is its program, and says what is missing where the extra isn't installed."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib

import pytest

from tests.lab.trial import CHECKOUT

NAMES = ("protokube-hub", "nokubelet", "nokubectl")


def scripted(name: str) -> tuple[str, str]:
    """Module and function that an installed command calls."""
    scripts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts[name].partition(":")
    return module, function


@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_its_program(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--no-such-option"])
    module, function = scripted(name)
    assert getattr(importlib.import_module(module), function)() == 64
    assert capsys.readouterr().err.startswith(f"{name}: ")


@pytest.mark.parametrize("name", NAMES)
def test_without_the_extra_it_says_what_to_install(name: str) -> None:
    module, function = scripted(name)
    code = f"import sys; sys.modules['aiohttp'] = None; from {module} import {function}; sys.exit({function}())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 78
    assert done.stderr == f"{name}: aiohttp isn't installed; pip install 'protokube[hub]'\n"
