"""Disk images in sparse files: copying, wiping, and putting them behind loop devices."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protokube.host.disk import intent, probe
from tests.lab.disks import DATA_DIRS, UUID

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
_CHUNK = MIB

VOLUME = "vol-a"


def run(*command: str | Path, given: bytes | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a program and return its output; its failure is an AssertionError with all that it said."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=given or b"", capture_output=True, timeout=300, env=environment)
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, f"{' '.join(words)}: exit {done.returncode}: {said}"
    return done.stdout.decode(errors="replace").strip()


def blank(path: Path, size: int) -> Path:
    """An image of zeros."""
    path.unlink(missing_ok=True)
    path.touch()
    os.truncate(path, size)
    return path


def data(path: Path) -> Iterator[tuple[int, bytes]]:
    """What isn't a hole, in pieces of at most 1 MiB."""
    with path.open("rb", buffering=0) as file:
        end = 0
        while True:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            for offset in range(start, end, _CHUNK):
                yield offset, os.pread(file.fileno(), min(_CHUNK, end - offset), offset)


def copy(source: Path, target: Path) -> Path:
    """A copy with the same holes."""
    blank(target, source.stat().st_size)
    with target.open("r+b", buffering=0) as file:
        for offset, piece in data(source):
            os.pwrite(file.fileno(), piece, offset)
    return target


def overlay(source: Path, target: Path, shift: int = 0) -> None:
    """Write what isn't zero in one image over another, moved by some bytes."""
    with target.open("r+b", buffering=0) as file:
        for offset, piece in data(source):
            for start in range(0, len(piece), 4096):
                page = piece[start : start + 4096]
                if page.count(0) != len(page):
                    os.pwrite(file.fileno(), page, shift + offset + start)


def write(path: Path, offset: int, content: bytes) -> None:
    """Write some bytes of an image."""
    with path.open("r+b", buffering=0) as file:
        assert os.pwrite(file.fileno(), content, offset) == len(content)


def wipe(path: Path, offset: int, length: int) -> None:
    """Make a range zero."""
    end = min(offset + length, path.stat().st_size)
    run("fallocate", "--punch-hole", "--offset", str(offset), "--length", str(end - offset), path)


def is_blank(path: Path) -> bool:
    """Whether every byte is zero."""
    return all(piece.count(0) == len(piece) for _, piece in data(path))


@contextmanager
def loop(image: Path, *options: str) -> Iterator[str]:
    """A loop device over an image."""
    device = run("losetup", "--find", "--show", *options, image)
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextmanager
def opaque(image: Path) -> Iterator[str]:
    """A loop device over a loop device: like a cloud's disk it doesn't tell which bytes were never written."""
    with loop(image) as below, loop(Path(below)) as device:
        yield device


def look(device: str, size: int, volume_id: str = VOLUME) -> probe.Answer:
    """What the child process answers that looks at this disk; called in this process, which saves its start."""
    status = os.stat(device)
    assert status.st_rdev, device
    request: probe.Request = {
        "volume_id": volume_id,
        "size": size,
        "identity": (frozenset(), None, device, None),
        "loops": ({}, {}),
        "data_dirs": DATA_DIRS,
    }
    return probe.answer(request)


def record(size: int, uuid: str = UUID, volume_id: str = VOLUME) -> bytes:
    """The record of a format in progress on a volume of this size."""
    fields: intent.IntentFields = {
        "cluster_id": "dev.example.com",
        "etcd_cluster": "main",
        "member": "a",
        "volume_id": volume_id,
        "size": size,
        "uuid": uuid,
        "label": "etcd-a",
    }
    return intent.encode({key: value for key, value in fields.items() if key in intent._KEYS})
