"""Which files stand behind loop devices.

The kernel asks the file's filesystem for that, which may hang (a dead NFS or FUSE server): for any loop device of the
machine, whoever made it. So a child process asks, and one that doesn't answer is left behind. A device that was asked
once isn't asked again: its disk sequence number tells it from the next one under its name (Linux 5.15).
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

File = tuple[int, int]
"""(st_dev, st_ino)."""
_Key = tuple[str, str]
"""A loop device's name and sequence number, which is empty where the kernel doesn't count disks."""

LIMIT = 3.0
"""Seconds for the answers about all devices that aren't known yet, from when the child asks."""
START_LIMIT = 60.0
"""Seconds until it does."""

_PACKAGE_PARENT = str(Path(__file__).parents[3])
_ASK = """
import os, sys
sys.path.insert(0, sys.argv[1])
from protokube.kernel.loops import tell_files

os.write(1, b"\\n")
tell_files(["/dev/" + name for name in sys.argv[2:]], 1)
"""


class Backing:
    """What is known about the machine's loop devices. One that is silent isn't asked again while its child waits."""

    def __init__(self) -> None:
        self._known: dict[_Key, File | None] = {}
        self._silent: dict[_Key, int] = {}
        """The process that asked."""

    def files(self, names: Iterable[str]) -> set[File]:
        """The file behind each of these devices that has one and answers.

        A silent one waits for the filesystem of its file. So it isn't behind a file whose own filesystem answers
        after this call.
        """
        keys = [(name, _sequence(name)) for name in names if _is_bound(name)]
        self._silent = {key: pid for key, pid in self._silent.items() if _lives(pid)}
        asked = self._ask([key for key in keys if key not in self._known and key not in self._silent])
        # Only what is still the same device is kept: the sequence is read before and after.
        self._known |= {key: file for key, file in asked.items() if key[1] and _sequence(key[0]) == key[1]}
        return {file for key in keys if (file := asked.get(key, self._known.get(key))) is not None}

    def learn(self, device: int, file: File) -> None:
        """Know the file behind an open device that this process has bound to it: nobody need be asked."""
        name = name_of(os.fstat(device).st_rdev)
        if sequence := _sequence(name):
            self._known[name, sequence] = file

    def _ask(self, keys: list[_Key]) -> Mapping[_Key, File | None]:
        if not keys:
            return {}
        answers, answering = os.pipe()
        try:
            pid = _start([name for name, _ in keys], answering)
        finally:
            os.close(answering)
        with open(answers, "rb", buffering=0) as stream:
            text = _heard(stream.fileno()).decode("ascii")
        lines = [line.split() for line in text.split("\n")[1:-1]]
        told = {keys[int(number)]: _file(words) for number, *words in lines}
        silent = [key for key in keys if key not in told]
        if silent:
            os.kill(pid, signal.SIGKILL)
            self._silent |= dict.fromkeys(silent, pid)
        else:
            os.waitpid(pid, 0)
        return told


def name_of(number: int) -> str:
    """A block device's name by its number: a loop device's minor may leave room for partitions."""
    return Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").readlink().name


def _file(words: list[str]) -> File | None:
    return (int(words[0]), int(words[1])) if words else None


def _start(names: list[str], answering: int) -> int:
    """Start the child that asks: in a session of its own, since it outlives us when the kernel doesn't let it go."""
    command = [sys.executable, "-I", "-S", "-c", _ASK, _PACKAGE_PARENT, *names]
    files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, answering, 1)]
    return os.posix_spawn(command[0], command, {}, file_actions=files, setsid=True)


def _lives(pid: int) -> bool:
    """Whether a child of ours still runs; one that has ended is reaped."""
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False


def _heard(fd: int) -> bytes:
    """What a child says until its end, or until the limit."""
    text = b""
    end = time.monotonic() + START_LIMIT
    while select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
        if not (part := os.read(fd, 1 << 16)):
            break
        if not text:
            end = time.monotonic() + LIMIT
        text += part
    return text


def _is_bound(name: str) -> bool:
    return Path(f"/sys/block/{name}/loop/backing_file").exists()


def _sequence(name: str) -> str:
    """Empty where the kernel doesn't count disks."""
    try:
        return Path(f"/sys/block/{name}/diskseq").read_text(encoding="ascii").strip()
    except OSError:
        return ""
