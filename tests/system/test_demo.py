"""The README's first command, as a newcomer runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

DEMO = Path(__file__).parents[2] / "examples/demo"


def run_demo(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEMO)],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_demo_makes_a_node_and_leaves_nothing_behind() -> None:
    demo = run_demo()
    assert demo.returncode == 0, demo.stdout + demo.stderr
    slow = ": no answer for "  # of a machine with more to do, which is no fault of the demo
    assert [line for line in demo.stderr.splitlines() if slow not in line] == []
    assert "exit 0: Converged: there was nothing left to do." in demo.stdout
    assert demo.stdout.endswith("✓ nothing: no loop device, no mount, no process, no file\n")
    assert "KUBERNETES=build/kubernetes make demo" in demo.stdout
    assert "\33" not in demo.stdout, "colours are for terminals"
    scratch = demo.stdout.split("\n  in ")[1].split(",")[0]
    assert not Path(scratch).exists()


def test_a_folder_without_a_kubernetes_is_told_before_anything_is_made(tmp_path: Path) -> None:
    demo = run_demo(KUBERNETES=str(tmp_path))
    assert demo.returncode == 78 and demo.stdout == ""
    assert "make build/kubernetes/made" in demo.stderr


def test_a_stage_that_fails_fails_the_demo_and_still_leaves_nothing_behind() -> None:
    """The last stage finds a report that it can't read, while disks are mounted and etcd runs."""
    demo = run_demo(PROTOKUBE_OUTPUT="json")
    assert demo.returncode == 1
    assert "✗ the second run exited 0" in demo.stdout
    assert "--- protokube.log, its end:" in demo.stdout
    assert demo.stdout.endswith("✓ nothing: no loop device, no mount, no process, no file\n")
