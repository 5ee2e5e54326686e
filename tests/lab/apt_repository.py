"""A repository of Debian packages made on the spot, for real apt and dpkg without a network."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCES = "/etc/apt/sources.list"


def package(folder: Path, name: str, version: str, files: Mapping[str, str], scripts: Mapping[str, str]) -> Path:
    """Build a package for every architecture. `scripts`: maintainer scripts by name."""
    tree = folder / f"{name}-tree"
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: lab <lab@example.com>\n"
    for path, text in {"DEBIAN/control": f"{control}Description: made by a test\n", **files}.items():
        _put(tree / path, text)
    for script, text in scripts.items():
        _put(tree / "DEBIAN" / script, f"#!/bin/sh\n{text}\n")
    built = folder / f"{name}_{version}_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(built)]
    subprocess.run(command, check=True, capture_output=True)
    return built


def index(folder: Path) -> None:
    """Write the folder's `Packages`."""
    stanzas = []
    for built in sorted(folder.glob("*.deb")):
        fields = subprocess.run(["dpkg-deb", "--field", built], check=True, capture_output=True, text=True).stdout
        data = built.read_bytes()
        where = f"Filename: ./{built.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        stanzas.append(fields + where)
    (folder / "Packages").write_text("\n".join(stanzas), encoding="utf-8")


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755 if text.startswith("#!") else 0o644)
