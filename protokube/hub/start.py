"""Starts the three programs. Where the extra `hub` isn't installed it says so, in one line."""

from __future__ import annotations

import importlib
import sys

BAD_CONFIG = 78
_EXTRA = ("aiohttp", "psutil", "cryptography", "rich")


def protokube_hub() -> int:
    """Run protokube-hub, and return its exit code."""
    return _run("protokube-hub", "cli_hub")


def nokubelet() -> int:
    """Run nokubelet, and return its exit code."""
    return _run("nokubelet", "cli_node")


def nokubectl() -> int:
    """Run nokubectl, and return its exit code."""
    return _run("nokubectl", "cli_operator")


def _run(name: str, module: str) -> int:
    try:
        program = importlib.import_module(f"protokube.hub.{module}")
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        print(f"{name}: {error.name} isn't installed; pip install 'protokube[hub]'", file=sys.stderr)
        return BAD_CONFIG
    code: int = program.main()
    return code
