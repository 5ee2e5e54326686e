"""A root file system of its own for a process, from the machine's programs, and who lives in it.

The tmpfs that is the root carries a name of ours. So every process of a container is found by its mounts, also one
that left its parent, and also by an agent that didn't start it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from protokube.agent.ports import Mount
from protokube.agent.runtimes.commands import PATH

READY = b"\0"
"""What the script's last words are, on its standard error."""


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

    def command(
        self, argv: Sequence[str], env: Sequence[tuple[str, str]], mounts: Sequence[Mount], *, own: Sequence[str] = ()
    ) -> list[str]:
        """The command that makes the root and becomes the container's program.

        Its standard error is a pipe to us: it says why the root can't be made, or READY. Then the pipe is closed, and
        the program has its standard output instead. `own`: a command before the program, such as setpriv's.
        """
        # The signal is asked for first, and then it is seen whether its sender lives: an agent that was killed
        # between the two leaves nothing behind.
        leash = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"]
        environment = [f"{name}={value}" for name, value in (("PATH", PATH), *env)]
        within = 'printf "\\0" >&2; exec 2>&1; exec "$@"'
        end = ["chroot", ".", "/bin/sh", "-c", within, "sh", *own, "env", "-i", *environment, *argv]
        lines = [f'test "$PPID" = {os.getpid()}', *self._made(mounts), f"exec {shlex.join(end)}"]
        return [*leash, "sh", "-euc", "\n".join(lines)]

    def _made(self, mounts: Sequence[Mount]) -> list[str]:
        at, here = shlex.quote, shlex.quote(str(self._path))
        lines = [
            f"mount -t tmpfs -o mode=0755 {at(self.name)} {here}",
            f"cd {here}",
            "mkdir etc usr dev proc",
        ]
        for place in (Path("/bin"), Path("/sbin"), Path("/lib"), Path("/lib32"), Path("/lib64"), Path("/libx32")):
            if place.is_symlink():
                lines.append(f"ln -s {at(str(place.readlink()))} {place.name}")
            elif place.is_dir():
                lines.append(f"mkdir {place.name}; mount --bind {place} {place.name}")
        lines += ["mount --bind /usr usr", "mount --rbind /dev dev", "mount --rbind /proc proc"]
        lines += ["mount -o remount,bind,ro usr", "echo hosts: files dns >etc/nsswitch.conf"]
        resolver = at(str(self._machine / "etc/resolv.conf"))
        lines.append(f"test ! -f {resolver} || cp {resolver} etc/resolv.conf")
        for mount in mounts:
            source, target = at(mount.source), at(mount.target.lstrip("/"))
            parent = at(str(Path(mount.target.lstrip("/")).parent))
            lines.append(f"if test -d {source}; then mkdir -p {target}; else mkdir -p {parent}; touch {target}; fi")
            lines.append(f"mount --bind {source} {target}")
            if mount.read_only:
                lines.append(f"mount -o remount,bind,ro {target}")
        return lines
