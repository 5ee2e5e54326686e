"""etcd of several Debian releases: the machine's own 3.4.23, and those unpacked into build/etcd (`make test`)."""

from __future__ import annotations

from pathlib import Path

UNPACKED = Path(__file__).parents[2] / "build/etcd"
TOOLS = {"3.5.16": UNPACKED / "trixie/root/usr/bin", "3.5.30": UNPACKED / "sid/root/usr/bin"}
"""Directories with etcd, etcdctl and etcdutl, by version."""
OWN = Path("/usr/bin")
"""The directory with the machine's own, 3.4.23."""
BINARIES = {"3.4.23": OWN, **TOOLS}
