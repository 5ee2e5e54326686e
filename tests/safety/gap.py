"""A program that waits for the moment between proof and mkfs: in it the disk would be free for an exclusive open.

Once a format of ours is under way (its record stands on the disk), it opens the disk exclusively as soon as it can,
writes its own data and closes, as another mkfs would. That data must not be destroyed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from protokube.host.disk import intent
from tests.lab.disks import LoopDisk, node
from tests.safety.claims import Job, Result
from tests.safety.images import MIB, blank

_SIZE = 320 * MIB
_TRIES = 6
_PLACES = (0, 64 * MIB)
_THEIRS = b"theirs".ljust(4096, b"!")
_LURKER = """
import mmap, os, sys
device, place, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
page = mmap.mmap(-1, 4096)
watch = os.open(device, os.O_RDONLY | os.O_DIRECT)
def under_way():
    os.preadv(watch, [page], place)
    return page[:8] == b"PKINTENT"
print("ready", flush=True)
while os.getppid() == parent and not under_way():
    pass
while under_way():
    try:
        fd = os.open(device, os.O_RDWR | os.O_EXCL)
    except OSError:
        continue
    if under_way():
        for offset in map(int, sys.argv[4:]):
            os.pwrite(fd, b"theirs".ljust(4096, b"!"), offset)
        os.fsync(fd)
        print("wrote", flush=True)
    break
"""


def jobs() -> list[Job]:
    """One."""
    return [Job("changed", "format: a program that waits for a gap", run)]


def run(scratch: Path) -> Iterator[Result]:
    """As many formats as it takes to hit a gap of some milliseconds."""
    for number in range(_TRIES):
        image = blank(scratch / f"disk-{number}.img", _SIZE)
        with node(scratch / f"root-{number}") as here, LoopDisk(image, _SIZE) as disk:
            here.look(disk.volume())
            words = [disk.device, intent.offset(_SIZE), os.getpid(), *_PLACES]
            command = [sys.executable, "-c", _LURKER, *map(str, words)]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as lurker:
                assert lurker.stdout is not None
                assert lurker.stdout.readline() == b"ready\n"
                here.format(disk.volume(), disk)
                here.finish()
                lurker.kill()
                wrote = b"wrote" in lurker.stdout.read()
            kept = all(disk.read(place, len(_THEIRS)) == _THEIRS for place in _PLACES)
        trouble = "what it wrote is destroyed" if wrote and not kept else ""
        yield Result("changed", f"format: a program that waits for a gap, try {number}", trouble)
        image.unlink()
