"""Which files stand behind loop devices. The kernel asks the file's filesystem for that, which can hang: so another
process asks, and one device that doesn't answer can't be the device we look for, as long as another one answers that
it is."""

from __future__ import annotations

import os
import select
import time

from protokube.kernel.loops import tell_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from protokube.host.disk.sysblock import BlockDisk

    Key = tuple[str, int]
    """A loop device's name and sequence: a name alone means another file tomorrow."""
    File = tuple[int, int]
    """(st_dev, st_ino)."""

_LIMIT = 1.0


class Loops:
    """What is known about loop devices: `files` behind them (None: none any more), and for the ones that are
    `silent` the process that waits for their answer."""

    def __init__(self, files: Mapping[Key, File | None], silent: Mapping[Key, int]) -> None:
        self.files = dict(files)
        self.silent = dict(silent)

    def ask(self, disks: Sequence[BlockDisk]) -> None:
        """Ask the kernel about the loop devices that we don't know yet, side by side."""
        keys = {(disk.name, disk.sequence): disk.node for disk in disks if disk.is_loop}
        unknown = [key for key in keys if key not in self.files and key not in self.silent]
        if not unknown:
            return
        fd, pid = _start([keys[key] for key in unknown])
        for number, *file in _lines_within(_LIMIT, fd, len(unknown)):
            self.files[unknown[number]] = (file[0], file[1]) if file else None
        os.close(fd)
        silent = [key for key in unknown if key not in self.files]
        self.silent |= dict.fromkeys(silent, pid)
        if not silent:
            os.waitpid(pid, 0)

    def file_of(self, disk: BlockDisk) -> File | None:
        """The file behind a loop device; None also for one that doesn't answer."""
        return self.files.get((disk.name, disk.sequence))


def _start(nodes: list[str]) -> tuple[int, int]:
    """Fork a process that asks: its descriptor to read from, and its pid. We have one thread only."""
    fd, answering = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            # Whoever waits for our end, or for the lock that we hold, must not wait for this process.
            os.closerange(0, answering)
            os.closerange(answering + 1, 256)
            tell_files(nodes, answering)
        finally:
            os._exit(os.EX_OK)
    os.close(answering)
    return fd, pid


def _lines_within(limit: float, fd: int, count: int) -> list[list[int]]:
    """So many lines of numbers, or those that come within `limit` seconds."""
    text = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    end = time.monotonic() + limit
    while text.count(b"\n") < count and poll.poll(max(0.0, end - time.monotonic()) * 1000):
        if not (part := os.read(fd, 1 << 16)):
            break
        text += part
    return [[int(word) for word in line.split()] for line in text.split(b"\n")[:-1]]
