"""A root file system of its own for a process, from the machine's programs, and who lives in it.

The tmpfs that is the root carries a name of ours. So every process of a container is found by its mounts, also one
that left its parent, and also by an agent that didn't start it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

from protokube.agent.ports import Mount
from protokube.agent.runtimes.commands import PATH


def label(work: Path) -> str:
    """The name of all roots below a directory: no other agent of the machine has it, whatever its own root is."""
    found = work.stat()
    return f"protokube:{found.st_dev}:{found.st_ino}:"


def inhabitants(name: str) -> list[int]:
    """The processes in roots whose name begins like this."""
    known = {Path("/proc/self/ns/mnt").readlink(): False}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            space = (folder / "ns/mnt").readlink()
            if space not in known:
                known[space] = _mounted(name, (folder / "mountinfo").read_text())
            if known[space]:
                found.append(int(folder.name))
    return found


def _mounted(name: str, mountinfo: str) -> bool:
    sources = (line.partition(" - ")[2].split() for line in mountinfo.splitlines())
    return any(source[1].startswith(name) for source in sources if source[:1] == ["tmpfs"])


class Place:
    """Where a container's root is made. `name`: see `label`. `machine`: the root of the machine's own files."""

    def __init__(self, name: str, path: Path, machine: Path) -> None:
        self.name = name
        self._path = path
        self._machine = machine

    def told(
        self,
        argv: Sequence[str],
        env: Sequence[tuple[str, str]],
        mounts: Sequence[Mount],
        *,
        directory: str = "",
        user: tuple[int, int] | None = None,
    ) -> bytes:
        """What `makeroot` is told. `user`: the user and the group of the program, None for those of the agent."""
        return msgspec.json.encode(
            {
                "agent": os.getpid(),
                "name": self.name,
                "path": str(self._path),
                "resolver": str(self._machine / "etc/resolv.conf"),
                "mounts": [(one.source, one.target, one.read_only) for one in mounts],
                "argv": argv,
                "env": [("PATH", PATH), *env],
                "directory": directory,
                "user": user,
            }
        )


def command(descriptor: int) -> list[str]:
    """The command that makes the root and becomes the container's program; it reads at `descriptor` what it is told.

    Its standard error is a pipe to us: it says why the root can't be made, or READY. Then the pipe is closed, and the
    program has its standard output instead.
    """
    own = ["unshare", "--mount", "--propagation", "private"]
    return [*own, sys.executable, "-I", "-S", "-c", _text(), str(descriptor)]


@cache
def _text() -> str:
    return files("protokube.agent.runtimes").joinpath("makeroot.py").read_text(encoding="utf-8")
