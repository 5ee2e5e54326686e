"""etcd of three Debian releases: the machine's own, and those unpacked below build/etcd."""

from __future__ import annotations

from pathlib import Path

from tests.lab.trial import TrialNode

CHECKOUT = Path(__file__).parents[2]
ETCDS = {"3.4.23": None, "3.5.16": "trixie", "3.5.30": "sid"}
"""The Debian release that has a version; None is this machine's."""


def install(node: TrialNode, version: str) -> None:
    """Let the programs of a node be those of another version, for as long as it is switched on."""
    release = ETCDS[version]
    if release is None:
        return
    unpacked = CHECKOUT / "build/etcd" / release / "root/usr"
    assert (unpacked / "bin/etcd").exists(), f"{unpacked} is missing: make build/etcd/made"
    done = node.run("mount", "-t", "overlay", "-o", f"lowerdir={unpacked}:/usr", "overlay", "/usr")
    assert done.returncode == 0, done.stderr
