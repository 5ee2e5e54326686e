"""Linters run as tests, so that one command is all there is to know."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
OURS = (
    "protokube",
    "nodeup",
    "release",
    "tests",
    "benchmarks",
    "examples",
    "examples/demo",
)


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", *OURS),
        ("ruff", "format", "--check", *OURS),
        ("mypy", "--strict"),
        ("lint-imports",),
    ],
    ids=["ruff", "format", "mypy", "imports"],
)
def test_there_is_nothing_to_complain_about(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
