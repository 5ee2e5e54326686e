"""Which files stand behind loop devices. The kernel asks the file's filesystem for that, which can hang: so each
device is asked by a process of its own, and one that doesn't answer can't be the device we look for, as long as
another one answers that it is."""

from __future__ import annotations

import marshal
import os
import select
import time

from protokube.kernel import calls

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
        askers = {}
        poll = select.poll()
        for disk in disks:
            key = (disk.name, disk.sequence)
            if disk.is_loop and key not in self.files and key not in self.silent:
                fd, pid = _start(disk.node)
                askers[fd] = key, pid
                poll.register(fd, select.POLLIN)
        end = time.monotonic() + _LIMIT
        while askers and (events := poll.poll(max(0.0, end - time.monotonic()) * 1000)):
            for fd, _ in events:
                poll.unregister(fd)
                key, pid = askers.pop(fd)
                answer = os.read(fd, 4096)
                os.close(fd)
                os.waitpid(pid, 0)
                if answer:
                    self.files[key] = marshal.loads(answer)
        for fd, (key, pid) in askers.items():
            os.close(fd)
            self.silent[key] = pid

    def file_of(self, disk: BlockDisk) -> File | None:
        """The file behind a loop device; None also for one that doesn't answer."""
        return self.files.get((disk.name, disk.sequence))


def _start(node: str) -> tuple[int, int]:
    """Fork a process that asks: its descriptor to read from, and its pid. We have one thread only."""
    fd, answering = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            # Whoever waits for our end, or for the lock that we hold, must not wait for this process.
            os.closerange(0, answering)
            os.closerange(answering + 1, 256)
            os.write(answering, marshal.dumps(calls.loop_backing(node)))
        finally:
            os._exit(os.EX_OK)
    os.close(answering)
    return fd, pid
