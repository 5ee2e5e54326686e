"""The real containerd of three Debian releases, unpacked below build/containerd: what it makes of a configuration."""

from __future__ import annotations

import os
import socket
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
RELEASES = {"1.6": "bookworm", "1.7": "trixie", "2.1": "sid"}

# What containerd writes to beside its root and state. They are the test's own for as long as it runs.
_COVERED = ("/etc", "/opt", "/run", "/var/lib")


def binary(release: str, name: str = "containerd") -> Path:
    """A program of a release."""
    path = CHECKOUT / "build/containerd" / RELEASES[release] / "root/usr/bin" / name
    assert path.exists(), f"{path} is missing: make build/containerd/made"
    return path


def version(release: str) -> str:
    """The installed version, as containerd says it itself."""
    said = subprocess.run([binary(release), "--version"], capture_output=True, text=True, check=True, timeout=60)
    return said.stdout.split()[2]


def dump(release: str, config: str, folder: Path) -> dict[str, Any]:
    """The configuration that is in effect with a file."""
    file = folder / "config.toml"
    file.write_text(config)
    done = subprocess.run(
        [binary(release), "-c", file, "config", "dump"], capture_output=True, text=True, check=True, timeout=60
    )
    return tomllib.loads(done.stdout)


def ignored(written: Mapping[str, Any], in_effect: Any, path: str = "") -> list[str]:
    """The keys of a configuration that are not in effect, with what is instead."""
    found: list[str] = []
    for key, value in written.items():
        there = in_effect.get(key) if isinstance(in_effect, dict) else None
        if isinstance(value, dict):
            found += ignored(value, there, f"{path}{key}/")
        elif there != value:
            found.append(f"{path}{key}: {value!r} is written, {there!r} is in effect")
    return found


@contextmanager
def running(release: str, config: str, folder: Path) -> Iterator[str]:
    """containerd, from the moment that it says it's ready; the value is its socket."""
    (folder / "config.toml").write_text(config)
    address, notify = str(folder / "c.sock"), str(folder / "n.sock")
    cover = "".join(f"mount -t tmpfs none {path} && " for path in _COVERED)
    command = [str(binary(release)), "-c", str(folder / "config.toml"), "--root", str(folder / "root")]
    command += ["--state", str(folder / "state"), "--address", address]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, (folder / "log").open("wb") as log:
        ready.bind(notify)
        ready.settimeout(60)
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{cover} exec "$@"', "sh", *command],
            env={"PATH": f"{binary(release).parent}:{os.environ['PATH']}", "NOTIFY_SOCKET": notify},
            stdout=log,
            stderr=log,
        )
        try:
            while b"READY=1" not in ready.recv(4096):
                pass
            yield address
        finally:
            process.terminate()
            process.wait(60)


def ctr(release: str, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """containerd's own client."""
    command = [str(binary(release, "ctr")), "--address", address, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
